/**
 * All rings of one session: starts and stops them, tells the device, logs it, and signals broken ones. Which address
 * spaces a ring runs in, and when, is the caller's decision (session-core.ts). Must not know messages.
 */

import { signalEventfd } from "../linux/eventfd.js";
import type { Logger } from "../log/logger.js";
import { F, has, hex } from "../virtio/index.js";
import type { HostReader } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import type { BackendDevice } from "./backend-device.js";
import type { DirtyLogging } from "./dirty-logging.js";
import { ringLog } from "./dirty-logging.js";
import type { InflightFile } from "./inflight.js";
import { baseOf, makeQueue, type RingSpaces } from "./ring-queue.js";
import { RingState } from "./ring-state.js";
import { RunningQueue } from "./running-queue.js";

export type { RingSpaces } from "./ring-queue.js";

export class Rings {
  readonly all: readonly RingState[];
  /** Where it is noted what is in flight, from the next start of a ring on. */
  inflight: InflightFile | undefined;

  constructor(
    readonly device: BackendDevice,
    readonly views: HostReader,
    readonly log: Logger,
    readonly logging: DirtyLogging,
    /** Called after each ring that started or stopped. */
    readonly onChange: () => void,
  ) {
    this.all = Array.from({ length: device.queueCount }, (_, index) => new RingState(index));
  }

  get anyRunning(): boolean {
    return this.all.some((ring) => ring.running !== undefined);
  }

  get anyStarted(): boolean {
    return this.all.some((ring) => ring.started);
  }

  get anyBroken(): boolean {
    return this.all.some((ring) => ring.broken);
  }

  /** The rings that could run if the translation mode were decided. */
  get ready(): readonly RingState[] {
    return this.all.filter((ring) => ring.ready);
  }

  /** Runs a ring that is ready. The device gets it before this returns. */
  start(ring: RingState, spaces: RingSpaces, features: bigint): void {
    const { addresses } = ring;
    if (addresses === undefined) return;
    const queue = makeQueue(ring, addresses, spaces, this.views, features);
    const running = new RunningQueue(ring, queue, features, this.views, this.logging, (failed, failure) =>
      this.#fail(failed, failure),
    );
    ring.running = running;
    this.logUsedRing(ring, spaces.ring.kind === "iova");
    // Packed rings have no such thing here.
    if (queue.nextUsed === undefined) queue.inflight = this.inflight?.ring(ring.index, ring.size);
    ring.everRan = true;
    this.log.log({
      event: "ring-start",
      message: `queue ${ring.index} runs from position ${queue.nextAvail}`,
      fields: {
        queue: ring.index,
        size: ring.size,
        base: ring.base,
        layout: has(features, F.RING_PACKED) ? "packed" : "split",
        ringAddresses: spaces.ring.kind,
        bufferAddresses: spaces.buffer.kind,
        kick: ring.kick.fd >= 0 ? "eventfd" : "polled",
        desc: hex(addresses.desc),
        avail: hex(addresses.avail),
        used: hex(addresses.used),
      },
    });
    this.onChange();
    this.device.queueStarted(running);
  }

  /** Has the writes to a running ring's used ring logged, if they are to be. */
  logUsedRing({ running, logAddress }: RingState, isTranslated: boolean): void {
    const { active } = this.logging;
    if (running === undefined) return;
    const isLogged = active !== undefined && logAddress !== undefined;
    // A packed queue is written in two areas, and the message has one address for the log.
    const isPacked = running.queue.nextUsed !== undefined;
    running.queue.ringLog = isLogged ? ringLog(active, logAddress, isTranslated || isPacked) : undefined;
  }

  /** Stops a ring if it runs; the device keeps its hands off it from now on. Says why in the log. */
  stop(ring: RingState, why: string): void {
    const { running } = ring;
    if (running === undefined) return;
    ring.running = undefined;
    this.device.queueStopped(ring.index);
    ring.base = baseOf(running.queue);
    this.onChange();
    this.log.log({
      event: "ring-stop",
      message: `queue ${ring.index} stopped at position ${running.queue.nextAvail}: ${why}`,
      fields: { queue: ring.index, base: ring.base },
    });
  }

  stopAll(why: string): void {
    for (const ring of this.all) this.stop(ring, why);
  }

  /** A ring does not start, because of `why`: says so, in the log and to the front-end. */
  hold(ring: RingState, why: string): void {
    ring.held = true;
    this.log.log({
      event: "ring-held",
      message: `queue ${ring.index} waits: ${why}`,
      fields: { queue: ring.index },
    });
    this.signalError(ring);
  }

  /** Tells the front-end, through SET_VRING_ERR's eventfd, that something is wrong with a ring. */
  signalError(ring: RingState): void {
    if (ring.error.fd >= 0) signalEventfd(ring.error.fd);
  }

  #fail(running: RunningQueue, failure: QueueFailure): void {
    const ring = this.all[running.index];
    // A queue that was stopped before has no say any more.
    if (ring.running !== running) return;
    this.log.log({
      event: "ring-broken",
      message: `queue ${ring.index} is broken: ${failure.message}`,
      fields: { queue: ring.index, code: failure.code },
    });
    ring.broken = true;
    this.stop(ring, "it is broken");
    this.signalError(ring);
  }
}
