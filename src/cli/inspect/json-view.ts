/**
 * An inspection as JSON, one object a line, each with its `kind`: `session`, `message`, `packet`, `finding`, `note`,
 * `summary`.
 * 64-bit numbers are hexadecimal strings, times nanoseconds in decimal strings. Must not know where messages come from.
 */
import type { Remark } from "../../inspect/frame.js";
import type { InspectionView } from "../../inspect/inspection.js";
import { packetHeader, type RingPacket } from "../../inspect/rings/traffic.js";
import type { Finding, InspectedSession, Observed } from "../../inspect/session.js";
import { summaryOf } from "../../inspect/summary.js";
import { type DeviceType, hex } from "../../virtio/index.js";
import { describePacket, opName } from "../../vsock/header.js";
import type { TextViewOptions } from "./text-view.js";

export class JsonView implements InspectionView {
  readonly #print: (line: string) => void;
  readonly #quiet: boolean;
  readonly #deviceType: DeviceType | undefined;

  constructor({ print, quiet, deviceType }: TextViewOptions) {
    this.#print = print;
    this.#quiet = quiet;
    this.#deviceType = deviceType;
  }

  begun({ start }: InspectedSession): void {
    this.#write("session", start.session, { timeNs: String(start.timeNs), transport: start.transport });
  }

  observed(session: InspectedSession, { number, message, line, answers, findings }: Observed): void {
    const { timeNs, channel, direction, isReply, needReply, request, name, payload, problem, systemCall } =
      message;
    if (!this.#quiet) {
      this.#write("message", session.start.session, {
        number,
        timeNs: String(timeNs),
        channel,
        direction,
        request,
        name,
        reply: isReply,
        needReply,
        payload: payload ?? null,
        ...(problem === undefined ? {} : { problem }),
        ...(systemCall === undefined ? {} : { systemCall }),
        descriptors: message.descriptorCount,
        ...(message.descriptorKinds === undefined ? {} : { descriptorKinds: message.descriptorKinds }),
        ...(answers === undefined ? {} : { answers: answers.number, afterNs: String(answers.afterNs) }),
        line,
      });
    }
    this.found(session, findings);
  }

  found({ start }: InspectedSession, findings: readonly Finding[]): void {
    for (const finding of findings) this.#write("finding", start.session, findingFields(finding));
  }

  remarked({ start }: InspectedSession, { timeNs, text }: Remark): void {
    this.#write("note", start.session, { timeNs: String(timeNs), text });
  }

  packet({ start }: InspectedSession, packet: RingPacket): void {
    if (this.#quiet) return;
    const { srcCid, srcCidHigh, dstCid, dstCidHigh, op, ...rest } = packetHeader(packet);
    this.#write("packet", start.session, {
      ring: packet.ring,
      timeNs: String(packet.timeNs),
      direction: packet.direction,
      srcCid: (BigInt(srcCidHigh) << 32n) | BigInt(srcCid),
      dstCid: (BigInt(dstCidHigh) << 32n) | BigInt(dstCid),
      ...rest,
      op,
      name: opName(op),
      line: describePacket(packetHeader(packet)),
    });
  }

  ended(session: InspectedSession): void {
    const { start, end, waits, iotlb, findings, ...rest } = summaryOf(session, this.#deviceType);
    this.#write("summary", start.session, {
      ...rest,
      iotlb: { ...iotlb, meanNs: String(iotlb.meanNs), slowestNs: String(iotlb.slowestNs) },
      waits: waits.map(({ name, count, totalNs, slowestNs }) => ({
        name,
        count,
        totalNs: String(totalNs),
        slowestNs: String(slowestNs),
      })),
      findings: findings.map(findingFields),
      end: end && { timeNs: String(end.timeNs), by: end.by, reason: end.reason },
    });
  }

  #write(kind: string, session: number, fields: object): void {
    this.#print(JSON.stringify({ kind, session, ...fields }, plain));
  }
}

function findingFields({ lint, severity, text, timeNs, shownBy, count }: Finding): object {
  return {
    lint,
    severity,
    text,
    timeNs: String(timeNs),
    message: shownBy?.number ?? null,
    line: shownBy?.line ?? null,
    count,
  };
}

/** Values as JSON has them: bytes and 64-bit numbers as hexadecimal strings. */
function plain(_key: string, value: unknown): unknown {
  if (typeof value === "bigint") return hex(value);
  return value instanceof Uint8Array ? Buffer.from(value).toString("hex") : value;
}
