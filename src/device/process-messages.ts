/** What the main process and a VM's own process, or that of siblings, say to each other, as JSON over node's channel. */
import type { LogEntry, LogLevel } from "../log/record.js";
import type { VmConfig } from "./config/vm-config.js";
import type { RunnerFigures } from "./device-runner.js";
import type { CommandMessage } from "./forward/command-relay.js";

/** Where node's channel is in the VMs' process. */
export const CHANNEL_FD = 3;

/**
 * The VMs' sockets are inherited from this number on, VM by VM: the VMM's, the host programs', the seqpacket one if there
 * is one, and those that stand for ports of the guest; the last of all is the socket for descriptors of commands.
 */
export const FIRST_INHERITED_FD = 4;

/** The argument of `confined-entry.ts`. */
export interface ConfinedStart {
  /** TCP ports that connections are forwarded to. */
  readonly tcpPorts: readonly number[];
  /** How many descriptors are inherited. */
  readonly descriptors: number;
}

export interface ProcessVm {
  readonly config: VmConfig;
  /** Whether the VMM's socket listens, or is connected. */
  readonly listening: boolean;
  readonly hasSeqpacket: boolean;
  /** The ports of the guest that the sockets behind those stand for. */
  readonly guestPorts: readonly number[];
}

export type ToProcess =
  /** The first message. */
  | { readonly kind: "start"; readonly vms: readonly ProcessVm[]; readonly logLevel: LogLevel }
  | { readonly kind: "figures"; readonly id: number; readonly cid: number }
  | { readonly kind: "command-exited"; readonly cid: number; readonly id: number }
  | { readonly kind: "close"; readonly cid: number };

export type FromProcess =
  | (CommandMessage & { readonly cid: number })
  /** The first message: it listens, and waits for the start. */
  | { readonly kind: "here" }
  /** All of them are served. */
  | { readonly kind: "ready" }
  | { readonly kind: "log"; readonly entry: LogEntry }
  | { readonly kind: "figures"; readonly id: number; readonly answer: RunnerFigures | undefined }
  /** A VM's device has nothing more to serve, or was told to end; with the last one the process ends. */
  | { readonly kind: "gone"; readonly cid: number };
