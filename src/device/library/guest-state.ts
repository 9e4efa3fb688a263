/**
 * Whether a guest's driver is running, from what its rings do, as the three events of the library. A paused VM stops its
 * rings and starts them where they were: that is no event. Must not know who listens.
 */
import { VSOCK_QUEUE } from "../../virtio/index.js";
import type { GuestEvent } from "./messages.js";

export class GuestState {
  readonly #running = new Set<number>();
  #isUp = false;

  constructor(private readonly tell: (event: GuestEvent, reason: string) => void) {}

  queueStarted(index: number): void {
    this.#running.add(index);
    if (this.#isUp || !this.#running.has(VSOCK_QUEUE.rx) || !this.#running.has(VSOCK_QUEUE.tx)) return;
    this.#isUp = true;
    this.tell("up", "the guest's driver has started its rings");
  }

  queueStopped(index: number): void {
    this.#running.delete(index);
  }

  /** Every connection has ended: the driver is new, or has reset its device. */
  reset(reason: string): void {
    if (!this.#isUp) return;
    this.#isUp = false;
    this.tell("reset", reason);
  }

  /** The VMM has left, and its guest with it. */
  sessionEnded(reason: string): void {
    this.#running.clear();
    if (!this.#isUp) return;
    this.#isUp = false;
    this.tell("down", reason);
  }
}
