/**
 * A ring while it runs, as the device sees it (BackendQueue): the queue over guest memory, the doorbells of the
 * ring's state, and the way to report that the driver broke it. Made and ended by rings.ts.
 */

import { signalEventfd } from "../linux/eventfd.js";
import type { DirtyLog } from "../memory/dirty-log.js";
import type { DeviceQueue, HostReader } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import type { BackendQueue } from "./backend-device.js";
import type { DirtyLogging } from "./dirty-logging.js";
import type { RingState } from "./ring-state.js";

export class RunningQueue implements BackendQueue {
  readonly index: number;
  readonly kickFd: number;
  readonly #ring: RingState;
  readonly #logging: DirtyLogging;
  readonly #onFailure: (running: RunningQueue, failure: QueueFailure) => void;

  constructor(
    ring: RingState,
    readonly queue: DeviceQueue,
    readonly driverFeatures: bigint,
    readonly views: HostReader,
    logging: DirtyLogging,
    onFailure: (running: RunningQueue, failure: QueueFailure) => void,
  ) {
    this.index = ring.index;
    this.kickFd = ring.kick.fd;
    this.#ring = ring;
    this.#logging = logging;
    this.#onFailure = onFailure;
  }

  get dirtyLog(): DirtyLog | undefined {
    return this.#logging.active;
  }

  notify(): boolean {
    if (this.#logging.active !== undefined) this.#logging.tell();
    // The call eventfd may change while the ring runs (QEMU masks and unmasks interrupts so), hence the look-up.
    if (!this.queue.needsNotification() || this.#ring.call.fd < 0) return false;
    signalEventfd(this.#ring.call.fd);
    return true;
  }

  fail(failure: QueueFailure): void {
    this.#onFailure(this, failure);
  }
}
