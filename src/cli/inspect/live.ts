/**
 * `bit33 inspect` between two programs: the relay's reports go to the inspection, and into a capture if one is asked
 * for; so do those of whoever follows the rings. Must not know how a message is passed on, decoded or judged.
 */
import { claimSocket, releaseSocket } from "../../device/claim-socket.js";
import { CaptureFile } from "../../inspect/capture/capture-file.js";
import type { SessionEnd } from "../../inspect/frame.js";
import type { Inspection } from "../../inspect/inspection.js";
import { type RelayObserver, RelayThread } from "../../inspect/relay/relay-thread.js";
import { RingsThread } from "../../inspect/rings/rings-thread.js";
import type { Finding } from "../../inspect/session.js";
import type { DeviceType } from "../../virtio/index.js";
import { waitForStopSignal } from "../signals.js";
import type { Terminal } from "../terminal.js";
import { packageVersion } from "../version.js";
import type { LiveSource } from "./options.js";

/** Payload of a packet that goes into a capture: the most that Linux puts into one. */
const MOST_PAYLOAD_BYTES = 64 * 1024;

export async function followLive(
  source: LiveSource,
  deviceType: DeviceType | undefined,
  inspection: Inspection,
  terminal: Terminal,
): Promise<void> {
  const { listenPath, connectPath, connectTimeoutMs, comes, once, capturePath, repairs } = source;
  const socket = claimSocket(listenPath);
  let capture: CaptureFile | undefined;
  try {
    capture = capturePath === undefined ? undefined : openCapture(capturePath, terminal);
    const observer = observing(inspection, capture);
    const rings = source.rings ? followRings(deviceType, observer, inspection, capture) : undefined;
    await rings?.ready;
    const ended = (session: number, end: SessionEnd): void => {
      observer.ended(session, end);
      if (once) thread.stop("the first session is over");
    };
    const thread = new RelayThread(
      { listener: socket.fd, connectPath, connectTimeoutMs, comes, once, repairs, rings: rings?.relayEnd },
      {
        ...observer,
        ended: (session, end) => {
          if (rings === undefined) ended(session, end);
          else {
            rings.whenFinished(session, (traffic) => {
              capture?.traffic(session, end.timeNs, traffic);
              inspection.traffic(session, traffic);
              ended(session, end);
            });
          }
        },
      },
    );
    void waitForStopSignal().then((signal) => thread.stop(`the inspector was ended by ${signal}`));
    rings?.ended.catch((error: Error) =>
      terminal.complain(`bit33: the rings are not followed any more (${error.message}); sessions go on`),
    );
    await thread.ready;
    terminal.complain(`inspecting: listening at ${listenPath}, connecting to ${connectPath}`);
    try {
      await thread.ended;
    } finally {
      rings?.stop();
    }
    await rings?.ended.catch(() => {});
  } finally {
    releaseSocket(socket);
    capture?.close();
  }
}

/** What is reported goes into the capture, and is shown; what was found about it goes into the capture with it. */
function observing(inspection: Inspection, capture: CaptureFile | undefined): RelayObserver {
  return {
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
    },
  };
}

function followRings(
  deviceType: DeviceType | undefined,
  { remark }: RelayObserver,
  inspection: Inspection,
  capture: CaptureFile | undefined,
): RingsThread {
  const mostPayloadBytes = capture === undefined ? 0 : MOST_PAYLOAD_BYTES;
  return new RingsThread(
    { deviceType, mostPayloadBytes },
    {
      packet: (session, packet) => {
        const findings = inspection.packet(session, packet);
        capture?.packet(session, packet, findings.map(commentOf));
      },
      fault: (session, fault) => {
        capture?.fault(session, fault);
        inspection.fault(session, fault);
      },
      remark,
    },
  );
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
