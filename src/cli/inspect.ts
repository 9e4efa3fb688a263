/**
 * `bit33 inspect`: follows vhost sessions between two other programs, or what was captured or traced of them, and says what
 * is wrong with them. Must not know how a message is passed on, decoded or judged; see src/inspect.
 */
import { Inspection } from "../inspect/inspection.js";
import { isAtLeast } from "../inspect/lints/lint.js";
import { JsonView } from "./inspect/json-view.js";
import { followLive } from "./inspect/live.js";
import { inspectHelp, readInspectRequest } from "./inspect/options.js";
import { followCapture } from "./inspect/replay.js";
import { followTrace } from "./inspect/strace.js";
import { TextView } from "./inspect/text-view.js";
import { hasSwitch } from "./options.js";
import { EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";

/** A finding as severe as --fail-on says, or more. */
export const EXIT_FINDINGS = 3;

export async function inspectCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(inspectHelp());
    return EXIT_OK;
  }
  try {
    const { source, failOn, json, ...rest } = readInspectRequest(argv);
    const options = { ...rest, print: terminal.print };
    const describe = options.deviceType === undefined ? {} : { deviceType: options.deviceType };
    const inspection = new Inspection(json ? new JsonView(options) : new TextView(options), { describe });
    if (source.kind === "live") await followLive(source, options.deviceType, inspection, terminal);
    else if (source.kind === "strace") followTrace(source, inspection, terminal);
    else followCapture(source, inspection, terminal);
    const { worst } = inspection;
    return failOn !== undefined && worst !== undefined && isAtLeast(worst, failOn) ? EXIT_FINDINGS : EXIT_OK;
  } catch (error) {
    return reportFailure(error, terminal);
  }
}
