/** Somebody in the relay's thread who sees messages together with their descriptors, and changes neither. */
import type { SessionFrame } from "../frame.js";

export interface RelayTap {
  /** A message is about to go on. Descriptors are the relay's, and whoever keeps one duplicates it. */
  message(session: number, frame: SessionFrame, fds: readonly number[]): void;
  ended(session: number): void;
}
