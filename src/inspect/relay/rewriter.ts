/**
 * What may be done to a message on its way through the relay: by default nothing, the same bytes go on. A rewriter is
 * for repairs that a user asks for by name. It runs in the relay's thread, between two system calls, once a message.
 */
import type { FrameChannel, FrameDirection } from "../frame.js";

/** A whole message on its way. */
export interface RelayedMessage {
  readonly channel: FrameChannel;
  readonly direction: FrameDirection;
  /** Header and payload; valid until the call returns. */
  readonly bytes: Uint8Array;
  /** Descriptors on their way; they are the relay's, and whoever keeps one duplicates it. */
  readonly fds: readonly number[];
}

/**
 * - `pass`: on it goes, unchanged.
 * - `replace`: these bytes go instead, with the same descriptors.
 * - `drop`: neither end sees it; its descriptors are closed.
 */
export type Rewriting =
  | { readonly kind: "pass" }
  | { readonly kind: "replace"; readonly bytes: Uint8Array }
  | { readonly kind: "drop" };

export const PASS: Rewriting = { kind: "pass" };

/** What a rewriter may say by itself. What is injected is reported as if the other end had sent it. */
export interface RewriterPort {
  /** A whole message behind those that are on their way, and before the one that is being looked at. False if that end is gone or there is no such channel. */
  inject(channel: FrameChannel, direction: FrameDirection, bytes: Uint8Array): boolean;
  /** A line for the user. */
  remark(text: string): void;
}

/** One for each session. */
export interface Rewriter {
  rewrite(message: RelayedMessage): Rewriting;
  /** The session is over: what was duplicated is to be closed. */
  close(): void;
}

export type MakeRewriter = (port: RewriterPort) => Rewriter;
