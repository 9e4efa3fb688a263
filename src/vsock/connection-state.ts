/**
 * The states of one connection and the legal ways between them, as data. `connection.ts` moves along them and a
 * property test walks them.
 */

export type ConnectionState =
  /** The guest asked; the host listener's backlog is full and is tried again. */
  | "connecting"
  /** A host program asked; REQUEST is due or sent, and the guest's RESPONSE is awaited. */
  | "requesting"
  /** Both may send, less what either has shut down. */
  | "established"
  /** Both directions are over on our side and the guest was told so; its RST is awaited. */
  | "closing"
  /** The guest's side is gone; bytes that it had sent are still on their way into the host socket. */
  | "draining"
  /** Nothing is left: descriptor closed, memory freed. */
  | "closed";

/** Which states may follow which. */
export const NEXT_STATES: Readonly<Record<ConnectionState, readonly ConnectionState[]>> = {
  connecting: ["established", "closed"],
  requesting: ["established", "closed"],
  established: ["closing", "draining", "closed"],
  closing: ["draining", "closed"],
  draining: ["closed"],
  closed: [],
};
