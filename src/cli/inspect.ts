/**
 * `bit33 inspect`: follows vhost-user sessions between two other programs, and says what is wrong with them. Must not
 * know how a message is passed on, decoded or judged; see src/inspect.
 */
import { claimSocket, releaseSocket } from "../device/claim-socket.js";
import { Inspection } from "../inspect/inspection.js";
import { isAtLeast } from "../inspect/lints/lint.js";
import { RelayThread } from "../inspect/relay/relay-thread.js";
import { JsonView } from "./inspect/json-view.js";
import { type InspectRequest, inspectHelp, readInspectRequest } from "./inspect/options.js";
import { TextView } from "./inspect/text-view.js";
import { hasSwitch } from "./options.js";
import { waitForStopSignal } from "./signals.js";
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
    return await follow(readInspectRequest(argv), terminal);
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

async function follow(request: InspectRequest, terminal: Terminal): Promise<number> {
  const { listenPath, connectPath, connectTimeoutMs, comes, once, json, failOn, deviceType } = request;
  const options = { ...request, print: terminal.print };
  const describe = deviceType === undefined ? {} : { deviceType };
  const inspection = new Inspection(json ? new JsonView(options) : new TextView(options), { describe });
  const socket = claimSocket(listenPath);
  try {
    const thread = new RelayThread(
      { listener: socket.fd, connectPath, connectTimeoutMs, comes },
      {
        begun: (start) => inspection.begun(start),
        frame: (session, frame) => inspection.frame(session, frame),
        remark: (session, remark) => inspection.remark(session, remark),
        time: (nowNs) => inspection.time(nowNs),
        ended: (session, end) => {
          inspection.ended(session, end);
          if (once) thread.stop("the first session is over");
        },
      },
    );
    void waitForStopSignal().then((signal) => thread.stop(`the inspector was ended by ${signal}`));
    await thread.ready;
    terminal.complain(`inspecting: listening at ${listenPath}, connecting to ${connectPath}`);
    await thread.ended;
  } finally {
    releaseSocket(socket);
  }
  const { worst } = inspection;
  return failOn !== undefined && worst !== undefined && isAtLeast(worst, failOn) ? EXIT_FINDINGS : EXIT_OK;
}
