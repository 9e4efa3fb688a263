/**
 * The configuration of one ring as the front-end has set it, and its three eventfds. Decides when a ring is ready to
 * run; who runs it is rings.ts. Must not know messages or translation.
 *
 * vhost-user, Ring states, with two readings that peers share (libvhost-user, rust-vmm):
 * - A ring counts as started from SET_VRING_KICK on, not from the first kick: after `stop` and `cont` of a VM no
 *   kick may ever come, and the device has something to write.
 * - A started ring that is disabled is left untouched and goes on once enabled. (The document's example, a network
 *   card that discards what it is given, would lose stream data: QEMU stops a device by ENABLE 0, then
 *   GET_VRING_BASE.)
 */

import { FdSlot } from "./descriptors.js";
import type { RunningQueue } from "./running-queue.js";

/** SET_VRING_ADDR: where the three areas are, in whichever address space was negotiated. */
export interface RingAddresses {
  readonly desc: bigint;
  readonly avail: bigint;
  readonly used: bigint;
}

export class RingState {
  /** Number of descriptors; 0 until SET_VRING_NUM. */
  size = 0;
  /** Where to go on: SET_VRING_BASE, or where the ring was stopped, in the form of these messages (wire/vring-base.ts). */
  base = 0;
  addresses: RingAddresses | undefined;
  /** SET_VRING_ADDR: where writes to the used ring are logged, in guest-physical addresses; undefined if nowhere. */
  logAddress: bigint | undefined;
  /** Why addresses that were set mean nothing any more, until SET_VRING_ADDR comes again. */
  voided: string | undefined;
  /** SET_VRING_KICK came, GET_VRING_BASE did not since. */
  started = false;
  enabled = false;
  /** The driver broke it: it does not run again before the front-end sets it up anew. */
  broken = false;
  /** It ran in this session, so a notification may have gone to an earlier call eventfd. */
  everRan = false;
  /** It was to run, but its areas are not all in memory or its addresses mean nothing any more, and that was said. */
  held = false;
  running: RunningQueue | undefined;
  readonly kick = new FdSlot();
  readonly call = new FdSlot();
  readonly error = new FdSlot();

  constructor(readonly index: number) {}

  /** Everything that is needed to run it is there, except for a translation mode. */
  get ready(): boolean {
    return this.started && this.enabled && !this.broken && this.size > 0 && this.addresses !== undefined;
  }

  /** Back to the initial state. The call and error eventfds stay: QEMU sends the latter once a session. */
  reset(): void {
    this.size = 0;
    this.base = 0;
    this.addresses = undefined;
    this.logAddress = undefined;
    this.voided = undefined;
    this.started = false;
    this.enabled = false;
    this.broken = false;
    this.held = false;
    this.kick.close();
  }

  closeDescriptors(): void {
    this.kick.close();
    this.call.close();
    this.error.close();
  }
}
