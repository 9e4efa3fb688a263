/**
 * The switch and the back-end of a device that the library serves: as any other's, and they tell `ConnectionWatcher` when a
 * connection ends and whether the guest's driver runs.
 */
import type { BackendQueue } from "../../vhost/backend-device.js";
import type { Connection } from "../../vsock/connection.js";
import { type SwitchOptions, VsockSwitch } from "../../vsock/switch.js";
import { VsockBackend } from "../vsock-backend.js";
import type { GuestState } from "./guest-state.js";

/** Who wants to know how connections end. */
export interface ConnectionWatcher {
  /** The guest's side of a connection is over; called before its descriptor is closed. */
  ended(connection: Connection, tellGuest: boolean): void;
  /** Every connection ends, in `end`. */
  whileResetting(reason: string, end: () => void): void;
}

export class WatchedSwitch extends VsockSwitch {
  readonly #watcher: ConnectionWatcher;

  constructor(options: SwitchOptions, watcher: ConnectionWatcher) {
    super(options);
    this.#watcher = watcher;
  }

  override detach(connection: Connection, tellGuest: boolean): void {
    this.#watcher.ended(connection, tellGuest);
    super.detach(connection, tellGuest);
  }

  override reset(reason: string): void {
    this.#watcher.whileResetting(reason, () => super.reset(reason));
  }
}

export class WatchedBackend extends VsockBackend {
  readonly #guest: GuestState;

  constructor(guest: GuestState, ...parts: ConstructorParameters<typeof VsockBackend>) {
    super(...parts);
    this.#guest = guest;
  }

  override queueStarted(queue: BackendQueue): void {
    super.queueStarted(queue);
    this.#guest.queueStarted(queue.index);
  }

  override queueStopped(index: number): void {
    this.#guest.queueStopped(index);
    super.queueStopped(index);
  }

  override sessionEnded(reason: string): void {
    // Before the switch is reset, which would tell of the same end in other words.
    this.#guest.sessionEnded(reason);
    super.sessionEnded(reason);
  }
}
