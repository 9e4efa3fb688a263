/** `bit33 inspect FILE.pcapng`: plays a capture to the inspection. Must not know how one is read or judged. */
import { replayCapture } from "../../inspect/capture/replay.js";
import type { Inspection } from "../../inspect/inspection.js";
import type { Terminal } from "../terminal.js";
import type { FileSource } from "./options.js";

export function followCapture({ path }: FileSource, inspection: Inspection, terminal: Terminal): void {
  const { others } = replayCapture(path, inspection);
  if (others > 0) terminal.complain(`${path}: ${others} packets are of other programs; not looked at`);
}
