/**
 * A ring while it runs, as the device sees it (BackendQueue): the queue over guest memory, the doorbells of the
 * ring's state, and the way to report that the driver broke it. Made and ended by rings.ts.
 */

import { signalEventfd } from "../linux/eventfd.js";
import type { DeviceQueue, HostReader } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import type { BackendQueue } from "./backend-device.js";
import type { RingState } from "./ring-state.js";

export class RunningQueue implements BackendQueue {
  readonly index: number;
  readonly kickFd: number;
  readonly #ring: RingState;
  readonly #onFailure: (running: RunningQueue, failure: QueueFailure) => void;

  constructor(
    ring: RingState,
    readonly queue: DeviceQueue,
    readonly views: HostReader,
    onFailure: (running: RunningQueue, failure: QueueFailure) => void,
  ) {
    this.index = ring.index;
    this.kickFd = ring.kick.fd;
    this.#ring = ring;
    this.#onFailure = onFailure;
  }

  notify(): void {
    // The call eventfd may change while the ring runs (QEMU masks and unmasks interrupts so), hence the look-up.
    if (this.queue.needsNotification() && this.#ring.call.fd >= 0) signalEventfd(this.#ring.call.fd);
  }

  fail(failure: QueueFailure): void {
    this.#onFailure(this, failure);
  }
}
