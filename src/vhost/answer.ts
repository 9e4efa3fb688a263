/**
 * What a handler makes of a message, before anybody knows whether the front-end wants to hear it, and the shape of a
 * handler. backend-session.ts turns an answer into bytes, if some are due.
 */

import type { ReceivedFds } from "./descriptors.js";
import type { SessionCore } from "./session-core.js";
import type { Message, Payload, PayloadKind, PayloadOf } from "./wire/index.js";

export type Answer =
  /** Obeyed. 0, if an acknowledgement is due. */
  | { readonly kind: "done" }
  /** The message's own reply. `fd` goes along, and is closed once it is sent. */
  | { readonly kind: "reply"; readonly payload: Payload; readonly fd?: number }
  /** Not obeyed, and the session goes on: the error form of whatever reply is due. `rule` says why, in one line. */
  | { readonly kind: "refused"; readonly rule: string }
  /** Not obeyed, and the session cannot go on: answered like `refused`, then closed. */
  | { readonly kind: "fatal"; readonly rule: string };

export const DONE: Answer = { kind: "done" };

export function reply(payload: Payload): Answer {
  return { kind: "reply", payload };
}

export function replyU64(value: bigint): Answer {
  return { kind: "reply", payload: { kind: "u64", value } };
}

export function refused(rule: string): Answer {
  return { kind: "refused", rule };
}

export function fatal(rule: string): Answer {
  return { kind: "fatal", rule };
}

/** Obeys one message. Descriptors that it does not take are closed by the caller. Never throws for a peer's mistake. */
export type Handler = (session: SessionCore, message: Message, fds: ReceivedFds) => Answer;

/** A handler that gets its payload as the kind that the message carries. */
export function taking<K extends PayloadKind>(
  kind: K,
  handle: (session: SessionCore, payload: PayloadOf<K>, fds: ReceivedFds) => Answer,
): Handler {
  return (session, { payload }, fds) =>
    payload.kind === kind
      ? handle(session, payload as PayloadOf<K>, fds)
      : refused(`it carries ${payload.kind}, not ${kind}`);
}
