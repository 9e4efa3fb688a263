/** `bit33 inspect --strace FILE`: plays a system-call trace to the inspection. Must not know how one is read or judged. */
import type { Inspection } from "../../inspect/inspection.js";
import { replayTrace } from "../../inspect/strace/replay.js";
import type { Terminal } from "../terminal.js";
import type { FileSource } from "./options.js";

export function followTrace({ path }: FileSource, inspection: Inspection, { complain }: Terminal): void {
  replayTrace(path, {
    begun: (start) => inspection.begun(start),
    message: (session, message) => inspection.message(session, message),
    remark: (session, remark) => inspection.remark(session, remark),
    ended: (session, end) => inspection.ended(session, end),
    note: (place, text) => complain(`${place}: ${text}`),
  });
}
