/**
 * Which cells there are, and how they are run: guests × VMMs × devices, in the order given, over a few threads.
 * Must not know how results look.
 */
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { Cell } from "./record.js";

export interface Matrix {
  readonly guests: readonly GuestProfile[];
  readonly vmms: readonly VmmProfile[];
  readonly devices: readonly DeviceProfile[];
}

export interface RunOptions {
  /** Called after each cell. */
  readonly progress?: (done: number, total: number) => void;
  /** Default: as many as there are processors, 4 at most. */
  readonly threads?: number;
}

/** Runs every cell; the result is in the order guests, VMMs, devices, the last fastest. */
export type RunMatrix = (matrix: Matrix, options?: RunOptions) => Promise<readonly Cell[]>;

/** Runs one cell in this thread. */
export type RunCell = (guest: GuestProfile, vmm: VmmProfile, device: DeviceProfile) => Promise<Cell>;
