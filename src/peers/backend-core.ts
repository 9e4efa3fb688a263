/**
 * The state of a modelled vhost-user back-end between messages: negotiated words, the device core, the back-end
 * channel; and what follows from a message: which rings start or stop, which questions go out. Back-ends differ in
 * what they do when something is wrong, and the difference decides who notices:
 *
 * - One whose `unofferedFeatures` is `leaves` or `exits` (the crates of rust-vmm and crosvm) looks ring addresses up
 *   when they are set, and ends its session, or its process, with the first message that it cannot obey.
 * - The others find out when a ring is to run, let it wait, and refuse a message only with an answer.
 *
 * Must not know the socket (backend-model.ts), nor bytes.
 */
import { closeSync } from "node:fs";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { Logger } from "../log/logger.js";
import type { AccessWatcher } from "../memory/watched-space.js";
import type { ModelledDevice } from "../profiles/device-profile.js";
import { BackendChannel } from "../vhost/backend-channel.js";
import type { RingState } from "../vhost/ring-state.js";
import { encodeRequest, IOTLB_TYPE, type NegotiatedWords } from "../vhost/wire/index.js";
import { F, has, mask, PROTOCOL_F, VSOCK_QUEUE, without } from "../virtio/index.js";
import type { DataPlane } from "./data-plane.js";
import { VhostModel } from "./vhost-model.js";

export interface BackendCoreParts {
  readonly loop: EventLoop;
  readonly device: ModelledDevice;
  readonly plane: DataPlane;
  readonly log: Logger;
  readonly watcher: AccessWatcher | undefined;
}

export class BackendCore {
  readonly device: ModelledDevice;
  readonly plane: DataPlane;
  readonly model: VhostModel;
  protocolFeatures = 0n;
  status = 0;
  /** Acknowledged, bit 30 included. */
  #features = 0n;
  readonly #loop: EventLoop;
  #channel: BackendChannel | undefined;

  constructor({ loop, device, plane, log, watcher }: BackendCoreParts) {
    this.#loop = loop;
    this.device = device;
    this.plane = plane;
    // Rings are worked on after the events of a turn; what they miss is sent in the next one.
    const onMiss = (): void => loop.requestTurn();
    this.model = new VhostModel({ device, plane, log, watcher, checksUserAddresses: true, onMiss });
  }

  get offeredFeatures(): bigint {
    const { features, protocolFeatures } = this.device;
    return protocolFeatures === 0n ? features : features | mask(F.PROTOCOL_FEATURES);
  }

  get words(): NegotiatedWords {
    return {
      offeredFeatures: this.offeredFeatures,
      features: this.#features,
      protocolFeatures: this.protocolFeatures,
    };
  }

  /** It ends with the first message that it cannot obey. */
  get isStrict(): boolean {
    const { unofferedFeatures } = this.device;
    return unofferedFeatures === "leaves" || unofferedFeatures === "exits";
  }

  /** IOTLB_MSG means something to it: without a channel to ask on, no back-end implements the message. */
  get knowsIotlb(): boolean {
    return has(this.device.protocolFeatures, PROTOCOL_F.BACKEND_REQ);
  }

  /** SET_FEATURES. False: a bit that was not offered. */
  setFeatures(word: bigint): boolean {
    if (!this.model.setFeatures(without(word, F.PROTOCOL_FEATURES))) return false;
    this.#features = word;
    // "If VHOST_USER_F_PROTOCOL_FEATURES has not been negotiated, the ring starts directly in the enabled state."
    if (!has(word, F.PROTOCOL_FEATURES)) for (const ring of this.model.rings.all) ring.enabled = true;
    return true;
  }

  /** There is no IOTLB_MSG_V2 on a socket; that a channel and acknowledgements were agreed on stands for it. */
  setProtocolFeatures(word: bigint): void {
    this.protocolFeatures = word;
    this.model.setMessagesNegotiated(has(word, PROTOCOL_F.BACKEND_REQ) && has(word, PROTOCOL_F.REPLY_ACK));
  }

  /** RESET_DEVICE, or status 0: memory, protocol features and channel stay. */
  resetDevice(why: string): void {
    this.model.rings.stopAll(why);
    for (const ring of this.model.rings.all) ring.reset();
    this.model.setFeatures(0n);
    this.#features = 0n;
    this.status = 0;
    this.plane.reset();
  }

  /** SET_BACKEND_REQ_FD: takes `fd`. Returns what is wrong with it. */
  openChannel(fd: number): string | undefined {
    this.#channel?.close();
    this.#channel = undefined;
    const closed = (): void => {
      this.#channel = undefined;
    };
    try {
      this.#channel = new BackendChannel(fd, this.#loop, { closed, writable: () => this.ask() });
      return undefined;
    } catch (error) {
      closeSync(fd);
      if (error instanceof SystemCallError) return error.message;
      throw error;
    }
  }

  /** Sends what rings have asked for. "MISS without NEED_REPLY", as DPDK does: the UPDATE is the answer. */
  ask(): void {
    const { misses } = this.model;
    while (this.#channel?.isReady === true) {
      const miss = misses.read();
      if (miss === undefined) return;
      const { iova, access } = miss;
      const payload = { iova, size: 0n, userAddress: 0n, perm: access, type: IOTLB_TYPE.MISS };
      this.#channel.send(encodeRequest("backend", "IOTLB_MSG", { kind: "iotlb", ...payload }));
    }
  }

  /** Starts and stops rings as the messages so far want it. Returns why a strict back-end cannot go on. */
  settle(): string | undefined {
    const { rings } = this.model;
    for (const ring of rings.all) {
      if (ring.running !== undefined && !ring.ready) rings.stop(ring, "the front-end stopped it");
    }
    if (!this.model.hasMemoryTable) return undefined;
    const waiting = rings.ready.filter((ring) => ring.running === undefined);
    return this.isStrict ? this.#startStrictly(waiting) : this.#startWhatCan(waiting);
  }

  /** Both data rings have to be ready, as crosvm waits for it, and behind an IOTLB their used rings mapped. */
  #startStrictly(waiting: readonly RingState[]): string | undefined {
    const { model, device } = this;
    const { all } = model.rings;
    if (!all[VSOCK_QUEUE.rx].ready || !all[VSOCK_QUEUE.tx].ready) return undefined;
    const looksFirst = model.translates && device.iotlb.ringsNeeded === "at-start";
    for (const ring of waiting) {
      if (looksFirst && ring.index !== VSOCK_QUEUE.event && !model.hasUsedRing(ring))
        return `VHOST_VSOCK_SET_RUNNING failed with EFAULT: the used ring of queue ${ring.index} is not mapped`;
    }
    for (const ring of waiting) model.start(ring);
    return undefined;
  }

  /** Untranslated, a ring waits for its memory; translated, it runs and asks. */
  #startWhatCan(waiting: readonly RingState[]): undefined {
    const { model } = this;
    for (const ring of waiting) {
      if (model.translates || model.isInMemory(ring)) {
        ring.held = false;
        model.start(ring);
      } else if (!ring.held) {
        model.rings.hold(ring, "its areas are not in the memory table");
      }
    }
  }

  close(why: string): void {
    this.#channel?.close();
    this.#channel = undefined;
    this.model.close(why);
  }
}
