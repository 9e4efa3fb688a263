/**
 * What a driver sees of any virtqueue, split or packed: add chains, `publish` them, `kickNeeded`, and `pollUsed` what
 * the device returned. Chains are known by a head: the first descriptor's index (split), the buffer id (packed).
 */
import type { QueueFailure } from "./failure.js";

export interface DriverQueue {
  readonly index: number;
  readonly size: number;
  /** Descriptors of the ring that are free. */
  readonly freeDescriptors: number;
  /** Chains added and not yet returned. */
  readonly inFlight: number;
  /** `len` of the chain that the latest successful `pollUsed` returned. */
  readonly usedLength: number;
  /** Set once the device wrote something impossible, for good. */
  readonly failure: QueueFailure | undefined;

  /** Starts a chain, giving up one that was begun and not committed. False: no descriptor is free. */
  begin(): boolean;
  /** Adds a buffer at `high * 2^32 + low` to the chain begun. False: no room; begin another chain later. */
  put(low: number, high: number, length: number, writable: boolean): boolean;
  /** Makes the chain begun that of a table somewhere in memory, which holds `entryBytes` of descriptors. */
  putTable(low: number, high: number, entryBytes: number, writableBytes: number): boolean;
  /** Ends the chain begun, which has at least one buffer, and returns its head. */
  commit(): number;
  /** Shows the device everything added so far. */
  publish(): void;
  /** Whether the device wants a kick for what was published since the last call. Ask after `publish`. */
  kickNeeded(): boolean;
  /** Takes the next returned chain: its head, with `usedLength`, or -1 if there is none or the device broke a rule. */
  pollUsed(): number;
  /** Asks the device not to notify. A hint. */
  disableNotifications(): void;
  /**
   * Asks for notifications. True: chains have been returned meanwhile, and none may come for them: poll again. Never of a
   * queue that has failed: nothing more comes of it.
   */
  enableNotifications(): boolean;
}
