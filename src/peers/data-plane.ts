/**
 * What a modelled device does with its rings: this project's own vsock backend and switch, made once the context id is
 * known and a ring starts. Peers differ in negotiation and memory, which is what their profiles describe; packets are
 * not part of a profile. Must not know negotiation.
 */

import { VsockBackend } from "../device/vsock-backend.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { Logger } from "../log/logger.js";
import type { BackendDevice, BackendQueue } from "../vhost/backend-device.js";
import { encodeVsockConfig, VSOCK_QUEUE } from "../virtio/index.js";
import type { Opener } from "../vsock/connection.js";
import type { HostEndpoints } from "../vsock/host-endpoints.js";
import { DEFAULT_LIMITS } from "../vsock/limits.js";
import { VsockSwitch } from "../vsock/switch.js";

export interface DataPlaneParts {
  readonly loop: EventLoop;
  readonly log: Logger;
  readonly endpoints: HostEndpoints;
  readonly queueCount: number;
}

/** The switch and the backend of one context id. */
interface Guest {
  readonly cid: number;
  readonly vsock: VsockSwitch;
  readonly backend: VsockBackend;
}

export class DataPlane implements BackendDevice {
  readonly queueCount: number;
  /** What a peer offers is its profile's to say. */
  readonly features = 0n;
  readonly #parts: DataPlaneParts;
  readonly #running = new Map<number, BackendQueue>();
  /** 0: none yet, and no packet of the guest is taken. */
  #cid = 0;
  #guest: Guest | undefined;

  constructor(parts: DataPlaneParts) {
    this.#parts = parts;
    this.queueCount = parts.queueCount;
  }

  /** The guest's context id. Connections of an earlier one end. */
  set guestCid(cid: number) {
    if (cid === this.#cid) return;
    this.#cid = cid;
    if (this.#guest === undefined) return;
    for (const index of this.#running.keys()) this.#guest.backend.queueStopped(index);
    this.#end("the guest has another context id now");
    for (const queue of this.#running.values()) this.#guestNow().backend.queueStarted(queue);
  }

  get guestCid(): number {
    return this.#cid;
  }

  /** Begins a connection from the host; see `VsockSwitch.connectGuest`. */
  connectGuest(guestPort: number, fd: number, opener: Opener): void {
    this.#guestNow().vsock.connectGuest(guestPort, fd, opener);
  }

  readConfig(offset: number, size: number): Uint8Array | undefined {
    const config = encodeVsockConfig(BigInt(this.#cid));
    return offset + size > config.length ? undefined : config.subarray(offset, offset + size);
  }

  queueStarted(queue: BackendQueue): void {
    this.#running.set(queue.index, queue);
    this.#guestNow().backend.queueStarted(queue);
  }

  queueStopped(index: number): void {
    this.#running.delete(index);
    this.#guest?.backend.queueStopped(index);
  }

  memoryAvailable(): void {
    this.#guest?.backend.memoryAvailable();
  }

  reset(): void {
    this.#guest?.backend.reset();
  }

  sessionEnded(reason: string): void {
    this.#end(reason);
  }

  #end(reason: string): void {
    const guest = this.#guest;
    this.#guest = undefined;
    guest?.backend.sessionEnded(reason);
    guest?.vsock.close();
  }

  #guestNow(): Guest {
    if (this.#guest !== undefined) return this.#guest;
    const { loop, log, endpoints } = this.#parts;
    const vsock = new VsockSwitch({
      loop,
      guestCid: this.#cid,
      limits: DEFAULT_LIMITS,
      endpoints,
      log,
      // A model is to be the same each time.
      firstAssignedPort: 2 ** 30,
    });
    const backend = new VsockBackend(loop, vsock, this.#cid, log, () => {});
    backend.mayOwnEventQueue = this.queueCount > VSOCK_QUEUE.event;
    this.#guest = { cid: this.#cid, vsock, backend };
    return this.#guest;
  }
}
