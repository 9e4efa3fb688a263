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
import {
  encodeVsockConfig,
  F,
  has,
  mask,
  maskOf,
  VSOCK_F,
  VSOCK_QUEUE,
  VSOCK_QUEUE_COUNT,
} from "../virtio/index.js";
import { MOST_WAITING_RESETS } from "../vsock/limits.js";
import type { GuestDoor, VsockSwitch } from "../vsock/switch.js";
import { ConnectionJournal, journalBytes, LEAST_TABLE_WORDS } from "./connection-journal.js";
import { EventQueue } from "./event-queue.js";
import { GuestReceiveRing } from "./guest-receive-ring.js";
import { QueueCounters } from "./metrics/queue-counters.js";
import { decodeState, encodeState } from "./saved-state.js";
import { TransmitQueue } from "./transmit-queue.js";

/** What is implemented and tested; bits 30 and 33 are the session's. */
const RING_FEATURES = maskOf(F.VERSION_1, F.INDIRECT_DESC, F.EVENT_IDX, F.RING_PACKED, F.IN_ORDER);

/**
 * The bit of stream sockets is not offered, as by Linux vhost-vsock: no driver acknowledges it, and a device "MAY act"
 * as if it were negotiated (virtio 1.4, 5.10.3), which this one does. Nor is NO_IMPLIED_STREAM, although a device "SHOULD"
 * offer it there: docs/seqpacket.md says why.
 */
const SEQPACKET = mask(VSOCK_F.VSOCK_SEQPACKET);

/** Packets sent to the guest before other work of the thread has its turn. */
const MOST_PACKETS_A_PUMP = 1024;

/** How often a ring without a kick descriptor is looked at. */
const POLL_MS = 1;

/** Where a new driver's packed ring starts: descriptor 0, in its first round (virtio 1.4, 2.8.1). */
const PACKED_START = 0x8000;

/**
 * How long packets are held for a driver that was told of a transport reset and has not handled it: what it opened
 * before would end with the old connections. Our choice; a driver handles it in microseconds, unless its VM is paused.
 */
const EVENT_HANDLING_MS = 1000;
/** How long packets are held to see whether the event queue starts, too: front-ends start it last, at once. */
const EVENT_QUEUE_MS = 50;

/** What it takes to watch one queue's kicks. */
interface Watch {
  readonly fd: number;
  readonly token: number;
  readonly poll: Timer | undefined;
}

export class VsockBackend implements BackendDevice, GuestDoor {
  readonly queueCount = VSOCK_QUEUE_COUNT;
  /** False: the event queue is somebody else's for good, as with a device in the kernel. */
  mayOwnEventQueue = true;
  readonly features: bigint;
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
  #event: EventQueue | undefined;
  #journal: ConnectionJournal | undefined;
  /** Whose the entries of the journal are. */
  readonly #session = 1 + Math.floor(Math.random() * (2 ** 32 - 1));
  /**
   * The driver has connections that are gone: it is to be told, if the event queue is ours. `handling`: it was told,
   * and packets wait until it has taken notice, or until `#giveUpAtMs`.
   */
  #transportReset: "none" | "due" | "handling" = "none";
  /** The event queue had no buffer, or none that is mapped. */
  #eventWaits = false;
  /** Packets went to or came from the guest since the event became due. */
  #talkedSinceDue = false;
  #giveUpAtMs = 0;
  #handlingTimer: Timer | undefined;

  constructor(
    private readonly loop: EventLoop,
    private readonly vsock: VsockSwitch,
    private readonly guestCid: number,
    private readonly log: Logger,
    /** The session is over; nothing of this object is used any more. */
    private readonly ended: () => void,
    /** Whether the guest is offered seqpacket sockets. */
    seqpacket = true,
    private readonly counters = new QueueCounters(),
  ) {
    this.features = seqpacket ? RING_FEATURES | SEQPACKET : RING_FEATURES;
    this.#config = encodeVsockConfig(BigInt(guestCid));
    loop.afterEvents(this.#afterEvents);
  }

  readConfig(offset: number, size: number): Uint8Array | undefined {
    if (offset + size > this.#config.length) return undefined;
    return this.#config.subarray(offset, offset + size);
  }

  queueStarted(backend: BackendQueue): void {
    this.#recogniseDriver(backend);
    if (this.#transportReset === "due" && this.#handlingTimer === undefined) this.#awaitEventQueue();
    if (backend.index === VSOCK_QUEUE.rx) {
      this.#receive = new GuestReceiveRing(backend);
      this.#starved = false;
      this.vsock.door = this;
    } else if (backend.index === VSOCK_QUEUE.tx) {
      this.#transmit = new TransmitQueue(this.vsock, backend, this.counters);
      this.vsock.seqpacket = has(backend.driverFeatures & this.features, VSOCK_F.VSOCK_SEQPACKET);
      this.#transmitDue = true;
    } else {
      this.#event = new EventQueue(backend);
      this.#eventWaits = false;
    }
    this.#watch(backend);
    this.loop.requestTurn();
  }

  /**
   * A ring that goes on where it was stopped belongs to the driver that was running: a VM was paused. One that starts
   * at 0 belongs to a new driver (reboot, module reloaded), who knows nothing of the connections. Nothing else
   * tells: QEMU 7.2 sends no reset in between. (A wrong guess needs a driver whose index has wrapped to exactly 0;
   * its guest answers the stale packets with resets.) One that starts anywhere else belongs to a driver that has been
   * running without us: this program was restarted, or the VM's state restored. Its connections are gone, and it does
   * not know.
   */
  #recogniseDriver(backend: BackendQueue): void {
    const stoppedAt = this.#stoppedAt.get(backend.index);
    const position = backend.queue.nextAvail;
    this.#stoppedAt.delete(backend.index);
    if (stoppedAt === position) return;
    const isNew = position === (has(backend.driverFeatures, F.RING_PACKED) ? PACKED_START : 0);
    if (!isNew) this.#transportResetIsDue();
    if (stoppedAt === undefined || this.#restartSeen) return;
    if (this.#isQueueReset(backend)) return;
    this.#restartSeen = true;
    this.vsock.reset(isNew ? "the guest's driver started anew" : "the guest's state was restored");
  }

  /**
   * With RING_RESET a driver starts one queue anew, from its initial state, while the other goes on: nothing else of it
   * has changed. (Understood, but not offered: no front-end known forwards it for vsock, so a guest would wait.)
   */
  #isQueueReset({ index, driverFeatures }: BackendQueue): boolean {
    if (!has(driverFeatures, F.RING_RESET)) return false;
    return index === VSOCK_QUEUE.rx ? this.#transmit !== undefined : this.#receive !== undefined;
  }

  #transportResetIsDue(): void {
    if (this.#transportReset === "due" || !this.mayOwnEventQueue) return;
    this.#setTransportReset("due");
    this.#talkedSinceDue = false;
    this.#eventWaits = false;
  }

  #setTransportReset(state: "none" | "due" | "handling"): void {
    this.#transportReset = state;
    this.#handlingTimer?.cancel();
    this.#handlingTimer = undefined;
  }

  #watch(backend: BackendQueue): void {
    const onKick = this.#onKick[backend.index];
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

  /** By queue: receive, transmit, event. */
  readonly #onKick: readonly (() => void)[] = [
    () => {
      this.#starved = false;
      this.counters.receiveKicks++;
    },
    () => {
      this.#transmitDue = true;
      this.counters.transmitKicks++;
    },
    () => {
      this.#eventWaits = false;
    },
  ];

  queueStopped(index: number): void {
    const watch = this.#watches.get(index);
    if (watch !== undefined) {
      this.#watches.delete(index);
      watch.poll?.cancel();
      if (watch.fd >= 0) this.loop.unwatch(watch.fd, watch.token);
    }
    const stopped = [this.#receive, this.#transmit, this.#event][index];
    if (stopped !== undefined) this.#stoppedAt.set(index, stopped.backend.queue.nextAvail);
    this.#restartSeen = false;
    if (index === VSOCK_QUEUE.rx) {
      this.#receive = undefined;
      this.vsock.door = undefined;
    } else if (index === VSOCK_QUEUE.tx) this.#transmit = undefined;
    else this.#event = undefined;
    if (this.#event === undefined && this.#transportReset === "handling") this.#setTransportReset("none");
  }

  memoryAvailable(): void {
    this.#starved = false;
    this.#transmitDue = true;
    this.#eventWaits = false;
    this.loop.requestTurn();
  }

  reset(): void {
    this.#stoppedAt.clear();
    this.#setTransportReset("none");
    this.vsock.reset("the guest reset the device");
  }

  get tableBytes(): number {
    return journalBytes(MOST_WAITING_RESETS + 2 * this.vsock.limits.maxConnections);
  }

  /** The guest's connections went through whoever had this memory before, unless that was this session. */
  useTable(words: Uint32Array): void {
    if (words.length < LEAST_TABLE_WORDS) {
      this.#journal = undefined;
      this.vsock.journal = undefined;
      return;
    }
    const journal = new ConnectionJournal(words, this.#session);
    this.#journal = journal;
    this.vsock.journal = journal;
    for (const { farCid, hostPort, guestPort, type } of this.vsock.connections)
      journal.add(farCid, hostPort, guestPort, type);
    const count = journal.lost.length;
    if (count === 0) return;
    this.vsock.resetLost(journal.lost);
    const message = `the guest had ${count} connections when its device was lost, and is told that they are gone`;
    this.log.log({ event: "connections-lost", message, fields: { connections: count } });
  }

  saveState(): Uint8Array {
    const { nextPort, connections } = this.vsock;
    return encodeState({ guestCid: this.guestCid, nextPort, connections });
  }

  /** The guest that goes on with this device had its connections through another. */
  loadState(bytes: Uint8Array): string | undefined {
    const state = decodeState(bytes);
    if (typeof state === "string") return state;
    const { guestCid, nextPort, connections } = state;
    this.vsock.reset("the guest's state was restored");
    this.#stoppedAt.clear();
    this.vsock.nextPort = nextPort;
    // Whichever way it hears of it first: by the event, or where the event queue is not ours, by these.
    this.vsock.resetLost(connections);
    this.#setTransportReset("none");
    this.#transportResetIsDue();
    const moved =
      guestCid === this.guestCid ? "" : `, and its context id changes from ${guestCid} to ${this.guestCid}`;
    const message = `the state of a device with ${connections.length} connections was taken over${moved}`;
    this.log.log({ event: "state-loaded", message, fields: { connections: connections.length, guestCid } });
    return undefined;
  }

  sessionEnded(reason: string): void {
    this.#stoppedAt.clear();
    this.#setTransportReset("none");
    this.vsock.reset(`the VMM's session ended: ${reason}`);
    this.detach();
    this.ended();
  }

  /** Leaves the event loop, where no session ever came about. */
  detach(): void {
    this.loop.removeAfterEvents(this.#afterEvents);
  }

  /** A sibling's burst has come, of which only what is taken at once needs no copy: before this device's own turn. */
  deliver(): void {
    if (this.#receive === undefined || this.#starved) return;
    if (this.#transportReset === "none") this.#pump(this.#receive);
    // Whether packets have to wait for the driver's event queue, its own turn knows.
    else this.loop.requestTurn();
  }

  /** After the events of a wake-up: guest to host first, as it may make answers due. */
  #work(): void {
    if (this.#transportReset !== "none" && this.#tellOfReset()) return;
    const transmit = this.#transmit;
    if (transmit !== undefined && (this.#transmitDue || (transmit.heldBack && this.vsock.acceptsPackets))) {
      const before = this.vsock.counters.fromGuestPackets;
      this.#transmitDue = transmit.run();
      const packets = this.vsock.counters.fromGuestPackets - before;
      if (packets > 0) this.counters.fromGuestBatches.add(packets);
      if (this.#transmitDue) this.loop.requestTurn();
    }
    if (this.#receive !== undefined && this.vsock.hasWork && !this.#starved) this.#pump(this.#receive);
    // Room for answers may have been what held packets back.
    if (this.#transmit?.heldBack === true && this.vsock.acceptsPackets) this.loop.requestTurn();
  }

  /** Sees to it that the driver hears that its connections are gone. True while packets have to wait for that. */
  #tellOfReset(): boolean {
    const event = this.#event;
    if (event === undefined && this.loop.timers.now() < this.#giveUpAtMs) return true;
    if (event === undefined || this.#eventWaits) {
      this.#talkedSinceDue = true;
      return false;
    }
    if (this.#transportReset === "due") return this.#writeReset(event);
    if (!event.isHandled && this.loop.timers.now() < this.#giveUpAtMs) return true;
    this.#setTransportReset("none");
    return false;
  }

  #awaitEventQueue(): void {
    this.#giveUpAtMs = this.loop.timers.now() + EVENT_QUEUE_MS;
    this.#handlingTimer = this.loop.setTimer(EVENT_QUEUE_MS, () => this.loop.requestTurn());
  }

  #writeReset(event: EventQueue): boolean {
    const outcome = event.writeReset();
    this.#eventWaits = outcome === "waits";
    if (outcome === "broken") this.#setTransportReset("none");
    if (outcome !== "written") {
      this.#talkedSinceDue = true;
      return false;
    }
    this.log.log({
      event: "transport-reset",
      message: "the guest's driver was told that its connections are gone",
    });
    // What was opened meanwhile ends at the guest's side with the rest.
    if (this.#talkedSinceDue) this.vsock.reset("the guest was told that its connections are gone");
    this.#setTransportReset("handling");
    this.#giveUpAtMs = this.loop.timers.now() + EVENT_HANDLING_MS;
    this.#awaitHandling();
    return true;
  }

  /** The driver need not kick when it is done, so it is looked at. A turn of the loop does the rest (`#work`). */
  #awaitHandling(): void {
    this.#handlingTimer = this.loop.setTimer(POLL_MS, () => this.#awaitHandling());
    this.loop.requestTurn();
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
    const packetsBefore = this.vsock.counters.toGuestPackets;
    let end: ReturnType<VsockSwitch["pump"]>;
    try {
      end = this.vsock.pump(ring, MOST_PACKETS_A_PUMP);
    } finally {
      // Whatever went wrong: no buffer is held across a return to the event loop.
      ring.finish();
    }
    const packets = this.vsock.counters.toGuestPackets - packetsBefore;
    if (packets > 0) this.counters.toGuestBatches.add(packets);
    const progressed = queue.nextAvail !== before;
    // Buffers may have come between the last look and the request for kicks. If nothing was sent although there are
    // some, the next one is merely not mapped, and there is nothing to do but wait.
    const cameMeanwhile = end === "starved" && ring.failure === undefined && queue.enableKicks();
    queue.publish();
    this.#journal?.settle();
    if (ring.backend.notify()) this.counters.receiveNotifications++;
    const failure = ring.failure ?? queue.failure;
    if (failure !== undefined) ring.backend.fail(failure);
    else if (end === "more" || (cameMeanwhile && progressed)) this.loop.requestTurn();
    else if (end === "starved") this.#starved = true;
  }
}
