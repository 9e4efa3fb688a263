/**
 * The vsock device behind one vhost-user session: connects the session's queues with the switch and decides when
 * each is worked on. One thread; all calls come from its event loop.
 */
import { EPOLLET, EPOLLIN } from "../linux/epoll.js";
import { errnoName } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { Timer } from "../linux/timers.js";
import type { Logger } from "../log/logger.js";
import type { BackendDevice, BackendQueue } from "../vhost/backend-device.js";
import { encodeVsockConfig, F, maskOf, VSOCK_QUEUE, VSOCK_QUEUE_COUNT } from "../virtio/index.js";
import type { VsockSwitch } from "../vsock/switch.js";
import { GuestReceiveRing } from "./guest-receive-ring.js";
import { TransmitQueue } from "./transmit-queue.js";

/**
 * What is implemented and tested; bits 30 and 33 are the session's. No vsock bit is among them: without any,
 * stream sockets are implied (virtio 1.4, 5.10.3).
 */
const OFFERED_FEATURES = maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX);

/** Packets sent to the guest before other work of the thread has its turn. */
const MOST_PACKETS_A_PUMP = 1024;

/** How often a ring without a kick descriptor is looked at. */
const POLL_MS = 1;

/** What it takes to watch one queue's kicks. */
interface Watch {
  readonly fd: number;
  readonly token: number;
  readonly poll: Timer | undefined;
}

export class VsockBackend implements BackendDevice {
  readonly queueCount = VSOCK_QUEUE_COUNT;
  readonly features = OFFERED_FEATURES;
  readonly #config: Uint8Array;
  readonly #watches = new Map<number, Watch>();
  readonly #stoppedAt = new Map<number, number>();
  readonly #afterEvents = () => this.#work();
  #receive: GuestReceiveRing | undefined;
  #transmit: TransmitQueue | undefined;
  #transmitDue = false;
  /** The receive ring had no buffer; kicks are on, and pumping before one comes is pointless. */
  #starved = false;
  /** The switch was already reset since the queues were last stopped. */
  #restartSeen = false;

  constructor(
    private readonly loop: EventLoop,
    private readonly vsock: VsockSwitch,
    guestCid: number,
    private readonly log: Logger,
    /** The session is over; nothing of this object is used any more. */
    private readonly ended: () => void,
  ) {
    this.#config = encodeVsockConfig(BigInt(guestCid));
    loop.afterEvents(this.#afterEvents);
  }

  readConfig(offset: number, size: number): Uint8Array | undefined {
    if (offset + size > this.#config.length) return undefined;
    return this.#config.subarray(offset, offset + size);
  }

  queueStarted(backend: BackendQueue): void {
    this.#recogniseDriver(backend);
    if (backend.index === VSOCK_QUEUE.rx) {
      this.#receive = new GuestReceiveRing(backend);
      this.#starved = false;
    } else if (backend.index === VSOCK_QUEUE.tx) {
      this.#transmit = new TransmitQueue(this.vsock, backend);
      this.#transmitDue = true;
    } else {
      // The event queue: nothing is sent on it, and its buffers wait.
      return;
    }
    this.#watch(backend);
    this.loop.requestTurn();
  }

  /**
   * A ring that goes on where it was stopped belongs to the driver that was running: a VM was paused. One that starts
   * elsewhere belongs to a new driver (reboot, module reloaded), who knows nothing of the connections. Nothing else
   * tells: QEMU 7.2 sends no reset in between. (A wrong guess needs a driver whose index has wrapped to exactly 0;
   * its guest answers the stale packets with resets.)
   */
  #recogniseDriver(backend: BackendQueue): void {
    const stoppedAt = this.#stoppedAt.get(backend.index);
    this.#stoppedAt.delete(backend.index);
    if (stoppedAt === undefined || stoppedAt === backend.queue.nextAvail || this.#restartSeen) return;
    this.#restartSeen = true;
    this.vsock.reset("the guest's driver started anew");
  }

  #watch(backend: BackendQueue): void {
    const onKick =
      backend.index === VSOCK_QUEUE.rx ? () => this.#receiveKicked() : () => this.#transmitKicked();
    const token = backend.kickFd < 0 ? -1 : this.#watchEventfd(backend, onKick);
    if (token >= 0) this.#watches.set(backend.index, { fd: backend.kickFd, token, poll: undefined });
    else this.#watches.set(backend.index, { fd: -1, token: 0, poll: this.#pollLater(backend.index, onKick) });
  }

  /** Edge-triggered and never read: every signal of an eventfd is an edge, and reading it would cost a call a kick. */
  #watchEventfd({ index, kickFd }: BackendQueue, onKick: () => void): number {
    const token = this.loop.tryWatch(kickFd, EPOLLIN | EPOLLET, { onEvents: onKick });
    if (token < 0) {
      const message = `queue ${index}: watching its kicks failed with ${errnoName(-token)}; it is polled`;
      this.log.log({ event: "kick-polled", message });
    }
    return token;
  }

  #pollLater(index: number, onKick: () => void): Timer {
    return this.loop.setTimer(POLL_MS, () => {
      this.#watches.set(index, { fd: -1, token: 0, poll: this.#pollLater(index, onKick) });
      onKick();
    });
  }

  #receiveKicked(): void {
    this.#starved = false;
  }

  #transmitKicked(): void {
    this.#transmitDue = true;
  }

  queueStopped(index: number): void {
    const watch = this.#watches.get(index);
    if (watch !== undefined) {
      this.#watches.delete(index);
      watch.poll?.cancel();
      if (watch.fd >= 0) this.loop.unwatch(watch.fd, watch.token);
    }
    const stopped = index === VSOCK_QUEUE.rx ? this.#receive?.backend : this.#transmit?.backend;
    if (stopped !== undefined && index <= VSOCK_QUEUE.tx) this.#stoppedAt.set(index, stopped.queue.nextAvail);
    this.#restartSeen = false;
    if (index === VSOCK_QUEUE.rx) this.#receive = undefined;
    else if (index === VSOCK_QUEUE.tx) this.#transmit = undefined;
  }

  memoryAvailable(): void {
    this.#starved = false;
    this.#transmitDue = true;
    this.loop.requestTurn();
  }

  reset(): void {
    this.#stoppedAt.clear();
    this.vsock.reset("the guest reset the device");
  }

  sessionEnded(reason: string): void {
    this.#stoppedAt.clear();
    this.vsock.reset(`the VMM's session ended: ${reason}`);
    this.detach();
    this.ended();
  }

  /** Leaves the event loop, where no session ever came about. */
  detach(): void {
    this.loop.removeAfterEvents(this.#afterEvents);
  }

  /** After the events of a wake-up: guest to host first, as it may make answers due. */
  #work(): void {
    const transmit = this.#transmit;
    if (transmit !== undefined && (this.#transmitDue || (transmit.heldBack && this.vsock.acceptsPackets))) {
      this.#transmitDue = transmit.run();
      if (this.#transmitDue) this.loop.requestTurn();
    }
    if (this.#receive !== undefined && this.vsock.hasWork && !this.#starved) this.#pump(this.#receive);
    // Room for answers may have been what held packets back.
    if (this.#transmit?.heldBack === true && this.vsock.acceptsPackets) this.loop.requestTurn();
  }

  #pump(ring: GuestReceiveRing): void {
    const { queue } = ring.backend;
    if (!ring.prepare()) {
      // Not mapped (yet): memoryAvailable ends the wait. Or broken.
      this.#starved = true;
      if (queue.failure !== undefined) ring.backend.fail(queue.failure);
      return;
    }
    queue.disableKicks();
    const before = queue.nextAvail;
    const end = this.vsock.pump(ring, MOST_PACKETS_A_PUMP);
    ring.finish();
    const progressed = queue.nextAvail !== before;
    // Buffers may have come between the last look and the request for kicks. If nothing was sent although there are
    // some, the next one is merely not mapped, and there is nothing to do but wait.
    const cameMeanwhile = end === "starved" && ring.failure === undefined && queue.enableKicks();
    queue.publish();
    ring.backend.notify();
    const failure = ring.failure ?? queue.failure;
    if (failure !== undefined) ring.backend.fail(failure);
    else if (end === "more" || (cameMeanwhile && progressed)) this.loop.requestTurn();
    else if (end === "starved") this.#starved = true;
  }
}
