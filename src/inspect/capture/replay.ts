/**
 * Plays a captured inspection to an observer again: the same sessions, messages and times as when it was live. Packets of
 * other link types and of other programs are counted. Must not know what comes of it.
 */
import type { FrameObserver } from "../frame.js";
import { directionOf, type RingFault, type RingPacket, type SessionTraffic } from "../rings/traffic.js";
import { CaptureError } from "./error.js";
import { decodeLink, type LinkPacket, VHOST_USER_LINK_TYPE } from "./link-header.js";
import { type CapturedPacket, readPackets } from "./pcapng-reader.js";
import { decodeRingRecord } from "./ring-record.js";
import { decodeVsockPacket, VSOCK_LINK_TYPE, vsockInterface } from "./vsockmon.js";

export interface ReplayObserver extends FrameObserver {
  time(nowNs: bigint): void;
  packet(session: number, packet: RingPacket): void;
  fault(session: number, fault: RingFault): void;
  traffic(session: number, traffic: SessionTraffic): void;
}

export interface ReplayCounts {
  readonly messages: number;
  /** Packets of somebody else. */
  readonly others: number;
}

const STOPPED = "the capture ends here";

/**
 * Plays what can be read. Throws a CaptureError after that, if the file is damaged or was not made by an inspection;
 * sessions that are still open then are ended first.
 */
export function replayCapture(path: string, observer: ReplayObserver): ReplayCounts {
  const open = new Set<number>();
  let messages = 0;
  let others = 0;
  let lastNs = 0n;
  try {
    for (const packet of readPackets(path)) {
      if (packet.interface.linkType !== VHOST_USER_LINK_TYPE) {
        if (!playPacket(packet, observer, open)) others++;
        continue;
      }
      const link = linkOf(packet);
      lastNs = packet.timeNs;
      if (link.kind === "message") messages++;
      play(packet.timeNs, link, observer, open);
    }
  } finally {
    for (const session of open) observer.ended(session, { timeNs: lastNs, by: "observer", reason: STOPPED });
  }
  if (messages === 0) {
    const problem = "there is no vhost-user message in it; give a file that bit33 inspect --capture wrote";
    throw new CaptureError("capture-foreign", path, problem);
  }
  return { messages, others };
}

/** False if it is no packet of a ring of a session that is open. */
function playPacket(captured: CapturedPacket, observer: ReplayObserver, open: Set<number>): boolean {
  const { timeNs, bytes } = captured;
  const from = captured.interface.linkType === VSOCK_LINK_TYPE && vsockInterface(captured.interface.name);
  const packet = decodeVsockPacket(bytes);
  if (!from || typeof packet === "string" || !open.has(from.session)) return false;
  const { headerBytes: header, payload } = packet;
  const { session, ring } = from;
  observer.packet(session, { timeNs, ring, direction: directionOf(ring), header, payload });
  return true;
}

function linkOf(packet: CapturedPacket): LinkPacket {
  const { bytes, originalBytes, place } = packet;
  const link = decodeLink(bytes);
  if (typeof link === "string") throw new CaptureError("capture-foreign", place, link);
  if (bytes.byteLength < originalBytes)
    throw new CaptureError(
      "capture-damaged",
      place,
      `its message was cut from ${originalBytes} to ${bytes.byteLength} bytes; nothing after it can be judged`,
    );
  return link;
}

function play(timeNs: bigint, link: LinkPacket, observer: ReplayObserver, open: Set<number>): void {
  const { session } = link;
  // A file that lacks its beginning (editcap, a ring of files) begins with the first thing it has.
  if (link.kind !== "begun" && link.kind !== "time" && !open.has(session)) {
    open.add(session);
    observer.begun({ session, timeNs, transport: "vhost-user" });
  }
  switch (link.kind) {
    case "begun":
      open.add(session);
      observer.begun({ session, timeNs, transport: "vhost-user" });
      return;
    case "message": {
      const { channel, direction, descriptorCount, descriptorKinds, body } = link;
      const frame = { timeNs, channel, direction, bytes: body, descriptorCount };
      observer.frame(session, descriptorKinds === undefined ? frame : { ...frame, descriptorKinds });
      return;
    }
    case "remark":
      observer.remark(session, {
        timeNs,
        text: textOf(link),
        isGap: link.isGap,
        isBroken: link.isBroken,
      });
      return;
    case "time":
      observer.time(timeNs);
      return;
    case "rings":
      playRings(timeNs, link, observer);
      return;
    case "ended":
      open.delete(session);
      observer.ended(session, { timeNs, by: link.ender, reason: textOf(link) });
      return;
  }
}

/** One that says something else is of a later version of this program, and passed over. */
function playRings(timeNs: bigint, { session, body }: LinkPacket, observer: ReplayObserver): void {
  const record = decodeRingRecord(body);
  if (record === undefined) return;
  if ("fault" in record) observer.fault(session, { timeNs, ...record.fault });
  else observer.traffic(session, new Map(record.traffic.map(({ ring, ...figures }) => [ring, figures])));
}

function textOf({ body }: LinkPacket): string {
  return new TextDecoder().decode(body);
}
