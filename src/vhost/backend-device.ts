/**
 * The contract between a vhost-user session (back-end side) and the device that it serves: what the session calls,
 * what it hands over, and the policy it is given. Interfaces only; the session is in backend-session.ts.
 * Must not know what a device does with its queues.
 */

import type { DirtyLog } from "../memory/dirty-log.js";
import type { DeviceQueue, HostReader } from "../virtqueue/device-queue.js";
import type { QueueFailure } from "../virtqueue/failure.js";
import type { TranslationOption } from "./translation.js";

/** What a session serves. All calls come from the session's event loop; none of them may throw. */
export interface BackendDevice {
  /** How many queues there are, those that a front-end keeps for itself included (3 for vsock). */
  readonly queueCount: number;
  /**
   * The virtio bits that the device and its rings implement. Bits 30 and 33 are the session's: 30 is always offered,
   * 33 as the policy says.
   */
  readonly features: bigint;

  /** `size` bytes of configuration space from `offset`, or undefined if there are none such. */
  readConfig(offset: number, size: number): Uint8Array | undefined;

  /** The ring is started and enabled, and the translation mode is decided: process it now, and on each kick. */
  queueStarted(queue: BackendQueue): void;

  /**
   * Called exactly once for each `queueStarted`. After it returned, the device touches neither the ring nor guest
   * memory on its behalf, does not use the `BackendQueue`, and does not watch its kick descriptor.
   */
  queueStopped(index: number): void;

  /** Memory or mappings came that blocked queues may wait for: try those again. */
  memoryAvailable(): void;

  /** The driver starts anew (RESET_DEVICE, status 0). Every queue has been stopped before. */
  reset(): void;

  /** How much memory that outlives a back-end it wants, beside what is known of the rings. Default 0. */
  readonly tableBytes?: number;

  /** That memory, as whoever had it before has left it: all zero if nobody. No ring runs. */
  useTable?(words: Uint32Array): void;

  /** What of it outlives it, for a snapshot or a migration. Every ring is stopped. */
  saveState?(): Uint8Array;

  /** Goes on from what `saveState` said, here or elsewhere; or says why it cannot. Every ring is stopped. */
  loadState?(bytes: Uint8Array): string | undefined;

  /** The session is over, with the reason in one line. Every queue has been stopped; nothing is called after this. */
  sessionEnded(reason: string): void;
}

/** A running queue, valid from `queueStarted` to `queueStopped`. */
export interface BackendQueue {
  readonly index: number;
  readonly queue: DeviceQueue;
  /** The virtio features that the driver has acknowledged. */
  readonly driverFeatures: bigint;
  /** Eventfd that the driver's kicks signal, non-blocking; -1 if there is none and the ring has to be polled. */
  readonly kickFd: number;
  /**
   * Where the device notes what it has written into buffers, once it has, and before it publishes them; undefined while
   * nothing is logged, which may change between bursts.
   */
  readonly dirtyLog: DirtyLog | undefined;
  /** Reads what a resolved chain points at. */
  readonly views: HostReader;
  /** Signals the call eventfd if the driver wants to know of what was published: true if so. Call it once a burst. */
  notify(): boolean;
  /**
   * The ring is broken: logs it, signals the error eventfd and stops the ring (`queueStopped` is called before this
   * returns). The front-end has to set it up anew.
   */
  fail(failure: QueueFailure): void;
}

/** What the operator chose for a device's sessions. */
export interface SessionPolicy {
  readonly iotlb: TranslationOption;
  /** Number of the experimental protocol feature that `explicit` negotiates. */
  readonly explicitBit: number;
  /** Whether bit 33 is offered. */
  readonly accessPlatform: boolean;
  /** How long `auto` holds rings whose addresses do not decide. */
  readonly probationMs: number;
  /** Largest ring taken, in descriptors. */
  readonly queueSizeMax: number;
  /** How long a MISS may stay unanswered before it is asked again. Default `MISS_TIMEOUT_MS` (src/memory). */
  readonly missTimeoutMs?: number;
}
