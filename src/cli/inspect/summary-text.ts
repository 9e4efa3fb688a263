/** The summary of an inspected session as text. Must not know how it was made. */
import type { FeatureRow, RingSummary, SessionSummary } from "../../inspect/summary.js";
import { hex } from "../../virtio/index.js";

export function milliseconds(ns: bigint): string {
  return `${(Number(ns / 1000n) / 1000).toFixed(3)} ms`;
}

export function summaryText(summary: SessionSummary): string {
  const { start, end, messages } = summary;
  const lines = [
    `session ${start.session} ${end === undefined ? "goes on" : `ended: ${end.reason}`}`,
    `  messages: ${messagesText(start.transport, messages)}`,
    ...featureTable("features", summary.features),
    ...(start.transport === "vhost-user" ? featureTable("protocol features", summary.protocolFeatures) : []),
    `  addresses are ${summary.translation.verdict}:`,
    ...summary.translation.evidence.map((each) => `    ${each}`),
    ...memoryLines(summary),
    ...ringLines(summary),
    ...iotlbLines(summary),
    ...waitLines(summary),
    ...findingLines(summary),
  ];
  return lines.join("\n");
}

function messagesText(
  transport: SessionSummary["start"]["transport"],
  { toBackend, toFrontend, onChannel, descriptors }: SessionSummary["messages"],
): string {
  if (transport === "kernel-vhost") return `${toBackend} calls, ${onChannel} IOTLB messages read`;
  return (
    `${toBackend} to the back-end, ${toFrontend} to the front-end, ` +
    `${onChannel} on the back-end channel, ${descriptors} descriptors`
  );
}

const MARKS = { yes: "yes", no: "-", unseen: "?" } as const;

function featureTable(title: string, rows: readonly FeatureRow[]): string[] {
  if (rows.length === 0) return [`  ${title}: none seen`];
  const isVirtio = rows.some(({ guest }) => guest !== "unseen") || title === "features";
  const width = Math.max(title.length, ...rows.map(({ bit, name }) => `${bit} ${name}`.length));
  const line = (head: string, guest: string, front: string, back: string): string =>
    `  ${head.padEnd(width)}  ${isVirtio ? `${guest.padEnd(5)}  ` : ""}${front.padEnd(9)}  ${back}`;
  return [
    line(title, "guest", "front-end", "back-end"),
    ...rows.map(({ bit, name, guest, frontEnd, backEnd }) =>
      line(`${bit} ${name}`, MARKS[guest], MARKS[frontEnd], MARKS[backEnd]),
    ),
  ];
}

function memoryLines({ regions, unseen, start }: SessionSummary): string[] {
  if (regions.length === 0) return [`  memory: ${unseen.includes("SET_MEM_TABLE") ? NOT_SHOWN : "none"}`];
  return regions.map(({ guestAddress, userAddress, size, mmapOffset }) => {
    const place = start.transport === "kernel-vhost" ? "" : ` at offset ${hex(mmapOffset)} of its file`;
    return `  memory gpa:${hex(guestAddress)} = uva:${hex(userAddress)}, ${hex(size)} bytes${place}`;
  });
}

const NOT_SHOWN = "not shown";

/** Rings are known by the arguments that name them. */
function ringLines({ rings, unseen }: SessionSummary): string[] {
  const lines = rings.flatMap((ring) => [ringLine(ring), ...trafficLines(ring)]);
  const isPartial = unseen.some((name) => name.includes("_VRING_"));
  return isPartial
    ? [...lines, `  rings: ${lines.length > 0 ? "what else was set is " : ""}${NOT_SHOWN}`]
    : lines;
}

function ringLine({
  index,
  size,
  isRunning,
  starts,
  base,
  stoppedAt,
  addresses,
  kick,
  call,
  inband,
}: RingSummary): string {
  const words = [`  ring ${index}: ${isRunning ? "running" : "stopped"}, ${starts} starts`];
  if (size !== undefined) words.push(`${size} descriptors`);
  if (addresses !== undefined) {
    const areas = Object.entries(addresses).map(
      ([name, { space, address }]) => `${name} ${space}:${hex(address)}`,
    );
    words.push(areas.join(" "));
  }
  if (base !== undefined) words.push(`base ${base}`);
  if (stoppedAt !== undefined) words.push(`last stopped at ${stoppedAt}`);
  words.push(`kick ${kick}, call ${call}`);
  if (inband.kicks + inband.calls + inband.errors > 0)
    words.push(`in-band kicks ${inband.kicks}, calls ${inband.calls}, errors ${inband.errors}`);
  return words.join(", ");
}

function trafficLines({ traffic }: RingSummary): string[] {
  if (traffic === undefined) return [];
  const { available, used, packets, readableBytes, writtenBytes, kicks, calls, unseen } = traffic;
  return [
    `    ${available} buffers made available, ${used} used, ${readableBytes} bytes for the device to read, ` +
      `${writtenBytes} written by it, ${packets} packets shown, at least ${kicks} kicks and ${calls} calls`,
    ...(unseen === 0
      ? []
      : [`    unseen: what ${unseen} of the used buffers held was gone, or out of reach, when looked for`]),
  ];
}

function iotlbLines({ iotlb }: SessionSummary): string[] {
  const { updates, invalidations, misses, answered, meanNs, slowestNs } = iotlb;
  if (updates + invalidations + misses === 0) return [];
  const waits =
    answered === 0 ? "" : `, after ${milliseconds(meanNs)} on average, ${milliseconds(slowestNs)} at most`;
  return [
    `  IOTLB: ${updates} UPDATE, ${invalidations} INVALIDATE, ${misses} MISS, ${answered} of them answered${waits}`,
  ];
}

function waitLines({ waits }: SessionSummary): string[] {
  if (waits.length === 0) return [];
  const slowest = [...waits].sort((a, b) => (a.slowestNs < b.slowestNs ? 1 : -1)).slice(0, 3);
  const words = slowest.map(
    ({ name, count, slowestNs }) => `${name} ${milliseconds(slowestNs)} (of ${count})`,
  );
  return [`  slowest answers: ${words.join(", ")}`];
}

function findingLines({ findings }: SessionSummary): string[] {
  if (findings.length === 0) return ["  findings: none"];
  return [
    "  findings (docs/lints.md explains each):",
    ...findings.flatMap(({ severity, lint, text, count, shownBy }) => [
      `    ${severity} ${lint}${count > 1 ? ` (${count} times)` : ""}: ${text}`,
      ...(shownBy === undefined ? [] : [`      shown by #${shownBy.number} ${shownBy.line}`]),
    ]),
  ];
}
