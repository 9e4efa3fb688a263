/**
 * The core of a device that is played as its profile says: feature words, memory table, IOTLB and rings, with this
 * project's own data plane behind them (data-plane.ts). Linux's semantics where a profile says nothing else
 * (drivers/vhost/vhost.c, vsock.c). Its two faces are kernel-model.ts and backend-model.ts.
 * Must not know ioctls or messages, guests or VMMs.
 */
import type { Logger } from "../log/logger.js";
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import { GuestMemory, type RegionWithFd } from "../memory/guest-memory.js";
import { SegmentList } from "../memory/segments.js";
import { TableSpace } from "../memory/table-space.js";
import { type AccessWatcher, type WatchedAccess, WatchedSpace } from "../memory/watched-space.js";
import type { ModelledDevice } from "../profiles/device-profile.js";
import { DirtyLogging } from "../vhost/dirty-logging.js";
import { ringAreas } from "../vhost/ring-areas.js";
import type { RingAddresses, RingState } from "../vhost/ring-state.js";
import { type RingSpaces, Rings } from "../vhost/rings.js";
import { IOTLB_TYPE, type IotlbMessage } from "../vhost/wire/index.js";
import { availBytes, descBytes, usedBytes } from "../virtqueue/layout.js";
import type { DataPlane } from "./data-plane.js";
import { MissLedger } from "./miss-ledger.js";
import { PeerIotlb } from "./peer-iotlb.js";
import { PeerSpace, type PeerSpaceParts } from "./peer-space.js";
import { wantsTranslation } from "./translation-switch.js";

/** The end of user addresses on x86-64 (TASK_SIZE_MAX): access_ok() refuses what is beyond. */
const USER_ADDRESSES_END = 2n ** 47n - 4096n;

const NOWHERE: RingAddresses = { desc: 0n, avail: 0n, used: 0n };
/** `used.flags` and `used.idx`, which Linux writes and reads when a ring starts. */
const USED_HEAD_BYTES = 4;

export interface VhostModelParts {
  readonly device: ModelledDevice;
  readonly plane: DataPlane;
  readonly log: Logger;
  readonly watcher: AccessWatcher | undefined;
  /**
   * The user addresses of an UPDATE have to lie in the memory table. A back-end has mapped nothing else; the kernel
   * lives in the front-end's own address space, and finds out when it gets there.
   */
  readonly checksUserAddresses: boolean;
  /** A question was noted. */
  readonly onMiss: () => void;
}

/** What became of an IOTLB message. */
export type IotlbResult =
  /** Obeyed; these rings had asked for it. */
  | { readonly ok: true; readonly answered: ReadonlySet<number> }
  | { readonly ok: false; readonly errno: "EINVAL" | "EFAULT" };

const FAULTED: IotlbResult = { ok: false, errno: "EFAULT" };
const NOBODY: ReadonlySet<number> = new Set();

export class VhostModel {
  readonly memory = new GuestMemory();
  readonly rings: Rings;
  readonly misses: MissLedger;
  /** Acknowledged, as it reached the device. */
  features = 0n;
  /** The memory table came, be it empty. */
  hasMemoryTable = false;

  readonly #parts: VhostModelParts;
  #messagesNegotiated = false;
  #messageCame = false;
  #iotlb: PeerIotlb | undefined;

  constructor(parts: VhostModelParts) {
    this.#parts = parts;
    this.misses = new MissLedger(!this.#isLikeLinux);
    // Nothing turns it on: logging is not modelled.
    const logging = new DirtyLogging(this.memory, parts.log, () => {});
    this.rings = new Rings(parts.plane, this.memory.views, parts.log, logging, () => {});
  }

  /** Addresses go through the IOTLB. */
  get translates(): boolean {
    return this.#iotlb !== undefined;
  }

  /** The mappings, for tests. */
  get iotlb(): PeerIotlb | undefined {
    return this.#iotlb;
  }

  /** Linux, or made after it: looks at the used rings first of all, keeps user addresses, asks again and again. */
  get #isLikeLinux(): boolean {
    return this.#parts.device.iotlb.ringsNeeded === "at-start";
  }

  // ---- negotiation ----

  /** SET_FEATURES. False: a bit that was not offered, and nothing changed (-EOPNOTSUPP). */
  setFeatures(word: bigint): boolean {
    const { device } = this.#parts;
    const arrived = word & ~device.frontEndMasks;
    if (device.unofferedFeatures !== "takes" && (arrived & ~device.features) !== 0n) return false;
    // With LOG_ALL Linux looks whether the log can be written (vhost_log_access_ok), which any address below the end
    // of user space passes. Nothing is logged here.
    this.features = arrived;
    // vhost_init_device_iotlb makes a new one each time; DPDK keeps its mappings until the memory changes.
    this.#renewTranslation({ startsEmpty: this.#isLikeLinux });
    return true;
  }

  /** SET_BACKEND_FEATURES with IOTLB_MSG_V2, or what stands for it on a socket. */
  setMessagesNegotiated(on: boolean): void {
    this.#messagesNegotiated = on;
    this.#renewTranslation({ startsEmpty: false });
  }

  #renewTranslation({ startsEmpty }: { readonly startsEmpty: boolean }): void {
    const { device } = this.#parts;
    const translated = this.translates;
    const wanted = wantsTranslation(device, {
      features: this.features,
      messagesNegotiated: this.#messagesNegotiated,
      messageCame: this.#messageCame,
    });
    if (wanted && (startsEmpty || !translated)) this.#iotlb = new PeerIotlb();
    else if (!wanted && device.iotlb.turnsOffAgain) this.#iotlb = undefined;
    if (this.translates !== translated && device.iotlb.togglingClearsAddresses) {
      // vhost_vq_invalidate_access.
      this.rings.stopAll("what its addresses mean has changed");
      for (const ring of this.rings.all) ring.addresses = undefined;
    }
    this.#restartRunning("features were acknowledged");
  }

  /** Rings go on where they are, in whichever address spaces are due now. */
  #restartRunning(why: string): void {
    for (const ring of this.rings.all) {
      if (ring.running !== undefined) this.restart(ring, why);
    }
  }

  // ---- memory ----

  /** SET_MEM_TABLE; takes the descriptors. Throws a MemoryError, and the old table stays. */
  setMemory(regions: readonly RegionWithFd[]): void {
    this.memory.replaceAll(regions);
    this.hasMemoryTable = true;
    this.#flushMappings();
  }

  /** DPDK's mappings lead to its own addresses of the old memory. Linux has user addresses, and keeps them. */
  #flushMappings(): void {
    if (this.#isLikeLinux) return;
    this.#iotlb?.clear();
    this.misses.clear();
  }

  /** An UPDATE or INVALIDATE. */
  iotlbMessage(message: IotlbMessage): IotlbResult {
    const { type, size } = message;
    const isUpdate = type === IOTLB_TYPE.UPDATE;
    const isKnown = isUpdate || type === IOTLB_TYPE.INVALIDATE;
    // vhost_chr_write_iter looks at an UPDATE's size before anything else, and calls whatever goes wrong later -EFAULT.
    if (isUpdate && size === 0n) return { ok: false, errno: "EINVAL" };
    if (!isKnown) return FAULTED;
    this.#noteMessage();
    if (this.#iotlb === undefined) return FAULTED;
    return isUpdate ? this.#update(this.#iotlb, message) : this.#invalidate(this.#iotlb, message);
  }

  #noteMessage(): void {
    if (this.#messageCame) return;
    this.#messageCame = true;
    if (this.#parts.device.iotlb.enabledBy === "first-message")
      this.#renewTranslation({ startsEmpty: false });
  }

  #update(iotlb: PeerIotlb, { iova, size, userAddress, perm }: IotlbMessage): IotlbResult {
    if (userAddress + size > USER_ADDRESSES_END) return FAULTED;
    if (this.#parts.checksUserAddresses && !this.#hasUserRange(userAddress, Number(size))) return FAULTED;
    if (!iotlb.add(iova, size, userAddress, perm)) return FAULTED;
    return { ok: true, answered: this.misses.answered(iova, size, perm) };
  }

  #invalidate(iotlb: PeerIotlb, { iova, size }: IotlbMessage): IotlbResult {
    if (this.#parts.device.iotlb.honoursInvalidate) iotlb.remove(iova, size);
    return { ok: true, answered: NOBODY };
  }

  #hasUserRange(userAddress: bigint, length: number): boolean {
    return this.memory.resolveUva(Number(userAddress), length, new SegmentList(4));
  }

  // ---- rings ----

  /** vhost_vq_access_ok: behind an IOTLB nothing is looked at yet, else areas have to end below the end of user space. */
  mayStart(ring: RingState): boolean {
    if (!this.hasMemoryTable) return false;
    // An address that was never set is looked up as 0, even where changed meanings clear it (seen on 6.12.117).
    if (this.translates) return true;
    return this.endsInUserSpace(ring.addresses ?? NOWHERE, ring.size);
  }

  /** vq_access_ok. */
  endsInUserSpace({ desc, avail, used }: RingAddresses, size: number): boolean {
    const areas: readonly [bigint, number][] = [
      [desc, descBytes(size)],
      [avail, availBytes(size)],
      [used, usedBytes(size)],
    ];
    return areas.every(([address, bytes]) => address + BigInt(bytes) <= USER_ADDRESSES_END);
  }

  /**
   * vhost_vq_init_access: writes the used ring's flags and reads its index. Behind an IOTLB both look it up for
   * reading (__vhost_get_user_slow), and what is missing is asked for, though the start has failed by then.
   */
  hasUsedRing(ring: RingState): boolean {
    const { used } = ring.addresses ?? NOWHERE;
    const space = this.#spaces(ring).ring;
    const low = Number(used & 0xffff_ffffn);
    const high = Number(used >> 32n);
    space.beginChain();
    const isThere =
      space.translate(low, high, USED_HEAD_BYTES, Access.READ, new SegmentList(4)) === Outcome.OK;
    // __vhost_get_user_slow: vq_err.
    if (!isThere && this.translates) this.rings.signalError(ring);
    return isThere;
  }

  /** All three areas of a ring lie in the memory table. */
  isInMemory(ring: RingState): boolean {
    const areas = ringAreas({ addresses: ring.addresses ?? NOWHERE, size: ring.size }, this.features);
    return areas.every(({ address, bytes }) => this.#hasUserRange(address, bytes));
  }

  start(ring: RingState): void {
    ring.broken = false;
    ring.addresses ??= NOWHERE;
    this.rings.start(ring, this.#spaces(ring), this.features);
  }

  /** GET_VRING_BASE on a socket: DPDK forgets mappings and addresses along with the ring (vhost_user_get_vring_base). */
  retire(ring: RingState): void {
    this.rings.stop(ring, "the front-end asked for its position");
    ring.started = false;
    ring.kick.close();
    if (this.#isLikeLinux) return;
    this.#flushMappings();
    ring.addresses = undefined;
  }

  /** Stops a ring that runs and starts it again. */
  restart(ring: RingState, why: string): void {
    this.rings.stop(ring, why);
    this.start(ring);
  }

  /** Looks at a ring without doing anything with it (vq_meta_prefetch): what is missing is asked for. */
  prefetch(index: number): void {
    const running = this.rings.all[index].running;
    if (running === undefined) return;
    if (running.queue.prepare() !== Outcome.FAULT) return;
    if (running.queue.failure !== undefined) running.fail(running.queue.failure);
  }

  #spaces(ring: RingState): RingSpaces {
    const iotlb = this.#iotlb;
    if (iotlb === undefined) {
      return {
        ring: this.#watched(new TableSpace("uva", this.memory), "ring"),
        buffer: this.#watched(new TableSpace("gpa", this.memory), "buffer"),
      };
    }
    const space = (withoutPermission: PeerSpaceParts["withoutPermission"]): AddressSpace =>
      new PeerSpace({
        iotlb,
        memory: this.memory,
        ask: (iova, access) => {
          this.misses.note({ ring: ring.index, iova, access });
          this.#parts.onMiss();
        },
        withoutPermission: this.#isLikeLinux ? withoutPermission : "asks",
      });
    return {
      ring: this.#watched(space("waits"), "ring"),
      buffer: this.#watched(space("breaks"), "buffer"),
    };
  }

  #watched(space: AddressSpace, use: WatchedAccess["use"]): AddressSpace {
    const { watcher } = this.#parts;
    return watcher === undefined ? space : new WatchedSpace(space, use, this.memory, watcher);
  }

  /** Ends everything and gives back what was lent. */
  close(why: string): void {
    this.rings.stopAll(why);
    this.#parts.plane.sessionEnded(why);
    for (const ring of this.rings.all) ring.closeDescriptors();
    this.misses.clear();
    this.memory.clear();
  }
}
