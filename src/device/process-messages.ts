/** What the main process and a VM's own process say to each other, as JSON over node's channel. */
import type { LogEntry, LogLevel } from "../log/record.js";
import type { VmConfig } from "./config/vm-config.js";
import type { RunnerFigures } from "./device-runner.js";
import type { CommandMessage } from "./forward/command-relay.js";

/** Where node's channel is in the VM's process. */
export const CHANNEL_FD = 3;

/**
 * The VM's sockets are inherited from this number on: the VMM's, the host programs', the seqpacket one if there is one, and
 * those that stand for ports of the guest; the last is the socket for descriptors of commands.
 */
export const FIRST_INHERITED_FD = 4;

/** The argument of `confined-entry.ts`. */
export interface ConfinedStart {
  /** TCP ports that connections are forwarded to. */
  readonly tcpPorts: readonly number[];
  /** How many descriptors are inherited. */
  readonly descriptors: number;
}

export type ToProcess =
  /** The first message. */
  | {
      readonly kind: "start";
      readonly config: VmConfig;
      /** Whether the VMM's socket listens, or is connected. */
      readonly listening: boolean;
      readonly hasSeqpacket: boolean;
      /** The ports of the guest that the sockets behind those stand for. */
      readonly guestPorts: readonly number[];
      readonly logLevel: LogLevel;
    }
  | { readonly kind: "figures"; readonly id: number }
  | { readonly kind: "command-exited"; readonly id: number }
  | { readonly kind: "close" };

export type FromProcess =
  | CommandMessage
  /** The first message: it listens, and waits for the start. */
  | { readonly kind: "here" }
  | { readonly kind: "ready" }
  | { readonly kind: "log"; readonly entry: LogEntry }
  | { readonly kind: "figures"; readonly id: number; readonly answer: RunnerFigures | undefined }
  /** The device has nothing more to serve; the process ends. */
  | { readonly kind: "finished" };
