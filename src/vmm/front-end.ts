/**
 * Plays a VMM's vhost-user front-end for the built-in guest, as a profile says: its messages, in its order. Owns the
 * vhost-user session; the guest's memory, rings and eventfds are the guest's. What it shares with the kernel's player
 * is in base-player.ts. Must not know the device at the other end of the socket.
 */
import { closeSync } from "node:fs";
import { EPOLLIN } from "../linux/epoll.js";
import { SystemCallError } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import { connectUnix, createSocket } from "../linux/unix-socket.js";
import type { RingStep, SetupStep, Step } from "../profiles/vmm-profile.js";
import type { FrontEndOptions as SessionOptions } from "../vhost/front-end-connection.js";
import { FrontEndError } from "../vhost/front-end-error.js";
import { FIRST_PACKED_BASE } from "../vhost/wire/index.js";
import { F, has, mask, PROTOCOL_F, STATUS } from "../virtio/index.js";
import { BasePlayer } from "./base-player.js";
import type { RemoteIotlb } from "./iotlb-server.js";
import { type DeviceOffer, takeProtocolFeatures } from "./negotiation.js";
import { ObservedSession } from "./observed-session.js";
import { type GuestQueue, type PlayerParts, StartRefused } from "./player.js";

export interface FrontEndOptions extends PlayerParts {
  /** The path of the back-end's socket, or a socket that is connected to it; that one is the front-end's from now on. */
  readonly socket: string | number;
  /** Watches the back-end's questions. Without it somebody calls `serve`; with it that is allowed, too. */
  readonly loop?: EventLoop | undefined;
  readonly session?: Pick<SessionOptions, "pump" | "now" | "timeoutMs">;
}

export class FrontEnd extends BasePlayer {
  readonly session: ObservedSession;
  protected readonly remoteIotlb: RemoteIotlb;
  readonly #profile: FrontEndOptions["profile"];
  readonly #loop: EventLoop | undefined;
  #offer: DeviceOffer = { features: undefined, protocolFeatures: 0n };
  #watched: { readonly fd: number; readonly token: number } | undefined;
  #queues: readonly GuestQueue[] = [];
  #hasMemory = false;
  /** SET_BACKEND_REQ_FD was sent. */
  #hasChannel = false;

  readonly #setUps: Readonly<Record<SetupStep, (queues: readonly GuestQueue[]) => void>> = {
    features: () => this.session.setFeatures(this.negotiation.sentToBackend),
    status: () => this.#setStatus(),
    memory: () => this.#shareMemory(),
    channel: () => this.#openChannel(),
    "used-rings": (queues) => this.pushUsedRings(queues),
    // The kernel's: vhost-user has no message for them.
    "backend-features": () => {},
    cid: () => {},
    running: () => {},
  };
  readonly #ringSetUps: Readonly<Record<RingStep, (index: number, queue: GuestQueue) => void>> = {
    num: (index, { size }) => this.session.setVringNum(index, size),
    base: (index, { base = this.#firstBase }) => this.session.setVringBase(index, base),
    addr: (index, queue) => this.session.setVringAddr(index, this.ringAddresses(index, queue)),
    kick: (index, { kickFd }) => this.session.setVringKick(index, kickFd),
    call: (index, { callFd }) => this.session.setVringCall(index, callFd),
    err: (index) => this.session.setVringErr(index, this.errorFd(index)),
    enable: (index) => this.#enable(index, true),
  };

  /** Connects. Throws SystemCallError if nobody listens. */
  constructor(options: FrontEndOptions) {
    super(options);
    this.#profile = options.profile;
    this.#loop = options.loop;
    const { socket, session: sessionOptions = {} } = options;
    const fd = typeof socket === "number" ? socket : connected(socket);
    const session = new ObservedSession(
      fd,
      { ...sessionOptions, onMiss: (miss) => this.miss(miss) },
      {
        begins: () => this.tell({ kind: "begins" }),
        ended: (text, result) =>
          this.tell({ kind: "message", text, ...(result === undefined ? {} : { result }) }),
      },
    );
    this.session = session;
    this.remoteIotlb = {
      update: (iova, bytes, user, perm) => session.iotlbUpdate(iova, bytes, user, perm) === 0n,
      invalidate: (iova, bytes) => void session.iotlbInvalidate(iova, bytes),
    };
  }

  /** A new driver's. Who offers packed rings by itself knows where they begin; who merely hands the bit on does not. */
  get #firstBase(): number {
    const knowsPacked = has(this.#profile.offer.own, F.RING_PACKED);
    return knowsPacked && has(this.negotiation.sentToBackend, F.RING_PACKED) ? FIRST_PACKED_BASE : 0;
  }

  // ---- before the guest boots ----------------------------------------------------------------------------------

  /** The order is QEMU's; where others differ, no device is known to which it matters. */
  protected meetDevice(): DeviceOffer {
    const { session, negotiation } = this;
    const features = session.getFeatures();
    negotiation.offeredByBackend = features;
    this.tell({ kind: "device-offer", features });
    const speaksProtocol = has(features, F.PROTOCOL_FEATURES);
    const protocolFeatures = speaksProtocol ? session.getProtocolFeatures() : 0n;
    this.#offer = { features, protocolFeatures };
    this.refuseIfDue(this.#offer);
    if (speaksProtocol) this.#takeProtocolFeatures(protocolFeatures);
    if (this.#negotiated(PROTOCOL_F.MQ)) session.getQueueNum();
    if (this.#negotiated(PROTOCOL_F.CONFIGURE_MEM_SLOTS)) session.getMaxMemSlots();
    if (this.#profile.backendChannel === "at-initialization") this.#openChannel();
    session.setOwner();
    session.getFeatures();
    this.setUpEarly();
    this.#reset();
    return this.#offer;
  }

  protected offerOfDevice(): DeviceOffer {
    return this.#offer;
  }

  #takeProtocolFeatures(offered: bigint): void {
    const taken = takeProtocolFeatures(this.#profile, this.parts.machine, offered);
    this.negotiation.protocolFeatures = taken;
    this.session.setProtocolFeatures(taken);
  }

  #openChannel(): void {
    if (this.#hasChannel || !this.#negotiated(PROTOCOL_F.BACKEND_REQ)) return;
    this.#during("channel", () => this.session.openBackendChannel());
    this.#hasChannel = true;
    if (this.#loop === undefined) return;
    const fd = this.session.channelFd;
    const token = this.#loop.watch(fd, EPOLLIN, { onEvents: () => void this.serve() });
    this.#watched = { fd, token };
  }

  #reset(): void {
    if (this.#profile.resetsDevice && this.#negotiated(PROTOCOL_F.RESET_DEVICE)) this.session.resetDevice();
  }

  /** The guest's context id, from the device's configuration space. */
  readCid(): number {
    return this.judged(() => {
      if (!this.#negotiated(PROTOCOL_F.CONFIG))
        throw this.refused("the back-end gives no access to its configuration space");
      const config = this.session.getConfig(0, 8, this.#profile.configFlags);
      if (config === undefined) throw new StartRefused("back-end", "it has no configuration space");
      return Number(new DataView(config.buffer, config.byteOffset, 8).getBigUint64(0, true));
    });
  }

  // ---- the start -----------------------------------------------------------------------------------------------

  override start(acknowledged: bigint, queues: readonly GuestQueue[]): void {
    super.start(acknowledged, queues);
    this.#queues = queues.slice(0, this.queueCount);
    if (this.judged(() => this.session.backendLeft))
      throw new StartRefused("back-end", "it closed the session");
  }

  protected setUp(step: SetupStep, queues: readonly GuestQueue[]): void {
    this.#during(step, () => this.#setUps[step](queues));
  }

  /** QEMU, `vhost_user_set_status`: FEATURES_OK is all that a vsock device is ever told, and it is told once. */
  #setStatus(): void {
    if (!this.#negotiated(PROTOCOL_F.STATUS)) return;
    const status = this.session.getStatus();
    if ((status & STATUS.FEATURES_OK) === 0) this.session.setStatus(status | STATUS.FEATURES_OK);
  }

  #shareMemory(): void {
    const regions = this.users.regions(this.parts.ram.fd);
    if (this.#profile.memory === "table" || !this.#negotiated(PROTOCOL_F.CONFIGURE_MEM_SLOTS)) {
      this.session.setMemTable(regions);
      return;
    }
    // Slots stay from one start to the next.
    if (!this.#hasMemory) for (const region of regions) this.session.addMemReg(region);
    this.#hasMemory = true;
  }

  protected setUpRing(step: RingStep, index: number, queue: GuestQueue): void {
    this.#during(step, () => this.#ringSetUps[step](index, queue));
  }

  /** Without bit 30 there is no such message, and rings run from the start. */
  #enable(index: number, enabled: boolean): void {
    if (has(this.negotiation.sentToBackend, F.PROTOCOL_FEATURES)) this.session.setVringEnable(index, enabled);
  }

  /** The messages of some steps ask for an acknowledgement. */
  #during(step: Step, action: () => void): void {
    this.session.needReply = this.#profile.needReply.includes(step);
    try {
      action();
    } finally {
      this.session.needReply = false;
    }
  }

  // ---- afterwards ----------------------------------------------------------------------------------------------

  serve(): number {
    let served = 0;
    if (this.died) return served;
    this.guarded(() => {
      served = this.session.serve();
    });
    // A channel that the back-end has closed is closed here as well, and a dead session is not served.
    if (this.failure !== undefined || this.session.channelFd < 0) this.#unwatch();
    return served;
  }

  /**
   * A migration begins or ends: the device logs what it writes in `size` bytes of `fd`, or no longer. In QEMU's order
   * (vhost_dev_set_log): the log, then the feature, then each ring.
   */
  setDirtyLog(log: { readonly fd: number; readonly size: bigint } | undefined): void {
    if (log !== undefined && !this.session.setLogBase(log.fd, log.size))
      throw new FrontEndError("refused", "the back-end does not take the dirty log");
    const { sentToBackend } = this.negotiation;
    this.session.setFeatures(log === undefined ? sentToBackend : sentToBackend | mask(F.LOG_ALL));
    for (const [index, queue] of this.#queues.entries()) {
      // As QEMU: an I/O virtual address where the device translates.
      const { used } = queue.addresses;
      this.session.setVringAddr(
        index,
        this.ringAddresses(index, queue),
        log === undefined ? undefined : used,
      );
    }
  }

  /** Stops the rings, as QEMU on reset or `stop`. Returns their positions. */
  stop(): number[] {
    if (this.died) return [];
    this.isRunning = false;
    this.disableRings();
    const bases = this.#indices.map((index) => this.session.getVringBase(index));
    this.#reset();
    return bases;
  }

  /** Starts the rings again where `stop` said that they were, as QEMU on `cont`. */
  resume(positions: readonly number[]): void {
    const queues = this.#queues.map(({ size, addresses, kickFd, callFd }, index) => {
      return { size, addresses, kickFd, callFd, base: positions[index] };
    });
    this.start(this.negotiation.acknowledgedByGuest, queues);
  }

  protected disableRings(): void {
    this.#during("enable", () => {
      for (const index of this.#indices) this.#enable(index, false);
    });
  }

  get #indices(): number[] {
    return Array.from({ length: this.queueCount }, (_, index) => index);
  }

  override close(): void {
    super.close();
    this.abandon();
  }

  protected abandon(): void {
    this.#unwatch();
    this.session.close();
  }

  protected refusalByDevice(error: unknown): string | undefined {
    return error instanceof FrontEndError ? error.message : undefined;
  }

  #unwatch(): void {
    const watched = this.#watched;
    this.#watched = undefined;
    // A closed descriptor is watched no more.
    if (watched !== undefined && this.session.channelFd === watched.fd)
      this.#loop?.unwatch(watched.fd, watched.token);
  }

  #negotiated(bit: number): boolean {
    return has(this.negotiation.protocolFeatures, bit);
  }
}

function connected(path: string): number {
  const fd = createSocket();
  const result = connectUnix(fd, path);
  if (result === 0) return fd;
  closeSync(fd);
  throw new SystemCallError("connect", -result, path);
}
