/**
 * `bit33 inspect` between two programs: the relay's reports go to the inspection, and into a capture if one is asked
 * for. Must not know how a message is passed on, decoded or judged.
 */
import { claimSocket, releaseSocket } from "../../device/claim-socket.js";
import { CaptureFile } from "../../inspect/capture/capture-file.js";
import type { Inspection } from "../../inspect/inspection.js";
import { RelayThread } from "../../inspect/relay/relay-thread.js";
import type { Finding } from "../../inspect/session.js";
import { waitForStopSignal } from "../signals.js";
import type { Terminal } from "../terminal.js";
import { packageVersion } from "../version.js";
import type { LiveSource } from "./options.js";

export async function followLive(
  source: LiveSource,
  inspection: Inspection,
  terminal: Terminal,
): Promise<void> {
  const { listenPath, connectPath, connectTimeoutMs, comes, once, capturePath, repairs } = source;
  const socket = claimSocket(listenPath);
  let capture: CaptureFile | undefined;
  try {
    capture = capturePath === undefined ? undefined : openCapture(capturePath, terminal);
    const thread = new RelayThread(
      { listener: socket.fd, connectPath, connectTimeoutMs, comes, repairs },
      {
        begun: (start) => {
          capture?.begun(start);
          inspection.begun(start);
        },
        frame: (session, frame) => {
          const findings = inspection.frame(session, frame);
          capture?.frame(session, frame, findings.map(commentOf));
        },
        remark: (session, remark) => {
          capture?.remark(session, remark);
          inspection.remark(session, remark);
        },
        time: (nowNs) => {
          if (inspection.time(nowNs)) capture?.time(nowNs);
        },
        ended: (session, end) => {
          capture?.ended(session, end);
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
    capture?.close();
  }
}

function openCapture(path: string, { complain }: Terminal): CaptureFile {
  return new CaptureFile({
    path,
    application: `bit33 ${packageVersion()}`,
    onFailure: (error) => complain(`bit33: ${error.line}; the session goes on without it`),
  });
}

/** A packet's comment, as Wireshark shows it. */
function commentOf({ severity, lint, text }: Finding): string {
  return `${severity} ${lint}: ${text}`;
}
