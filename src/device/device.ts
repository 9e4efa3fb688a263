/**
 * Starts and stops the devices of one process, from its main thread. How they are kept is `fleet.ts`'s business, what a
 * device does its Worker's (`worker.ts`).
 */
import type { Logger } from "../log/logger.js";
import type { Isolation } from "./config/siblings.js";
import type { VmConfig } from "./config/vm-config.js";
import { mayConfine } from "./confinement.js";
import { Fleet, type SocketSources } from "./fleet.js";
import type { VmReport } from "./metrics/figures.js";

export interface StartOptions extends SocketSources {
  readonly log: Logger;
  /** Whether each VM's device runs in a thread (the default) or in a process of its own; siblings share one. */
  readonly isolate?: Isolation;
  /** Whether those processes are confined with Landlock: `auto` (the default) if the kernel can. */
  readonly confine?: "auto" | "on" | "off";
  /** Goes on serving when no VM is left, since others may be added. */
  readonly standing?: boolean;
}

/** Devices that serve. */
export interface RunningDevice {
  /** Settles when nothing is served any more: rejects if a device failed and none is left. */
  readonly closed: Promise<void>;
  /** Of the VMs that are served now. */
  readonly configs: readonly VmConfig[];
  /** Starts another, whose configuration was checked together with `configs`. */
  add(configs: readonly VmConfig[]): Promise<void>;
  /** Stops one, and resolves when it is gone. */
  remove(cid: number): Promise<void>;
  /** What each device says of itself. */
  reports(): Promise<VmReport[]>;
  /** Ends all sessions and connections, and removes the socket files. */
  close(): Promise<void>;
}

/**
 * Starts a device for each configuration (already checked). Resolves once every socket listens; rejects with
 * `StartError`, and leaves nothing behind, if one cannot.
 */
export async function startDevice(
  configs: readonly VmConfig[],
  { log, isolate = "thread", confine = "auto", standing = false, ...from }: StartOptions,
): Promise<RunningDevice> {
  const confined = isolate === "process" && confine !== "off" && mayConfine(log, confine === "on");
  const fleet = new Fleet({ log, isolate, confined, standing });
  await fleet.add(configs, from);
  return fleet;
}
