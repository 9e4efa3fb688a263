/**
 * How the demo looks: paragraphs and rows of at most 80 columns. Must not know how anything was measured.
 */

import { bitsOf, F, has, virtioFeature } from "../../virtio/index.js";
import { labelled, paragraph } from "../paragraph.js";
import type { LineUp } from "./line-ups.js";
import type { IotlbCounts, Negotiated } from "./messages.js";

const INDENT = "     ";
const LABEL_WIDTH = 21;

export interface Transfer {
  readonly direction: "guest to host" | "host to guest";
  readonly bytes: number;
  readonly seconds: number;
  readonly sumSent: string;
  readonly sumReceived: string;
  readonly bytesReceived: number;
}

export interface LineUpResult {
  readonly negotiated: Negotiated;
  readonly mode: string;
  /** Why that mode, in the device's words. */
  readonly explanation: string;
  readonly transfers: readonly Transfer[];
  readonly iotlb: IotlbCounts | undefined;
}

export function isIntact({ bytes, bytesReceived, sumSent, sumReceived }: Transfer): boolean {
  return bytes === bytesReceived && sumSent === sumReceived;
}

export function introduction(servePid: number | undefined, count: number): string {
  return paragraph(
    `bit33 demo: one vsock device, ${count} guests. The device is "bit33 serve" in a process of its own (pid ` +
      `${servePid}). Each guest is a virtio-vsock driver in another process: it shares its memory as a memfd, ` +
      "and a VMM's front-end connects it through a vhost-user socket, as QEMU would. Host programs use plain " +
      "Unix sockets. Virtio feature bit 33 (ACCESS_PLATFORM) is the one to watch.",
    "",
  );
}

export function heading(index: number, count: number, { title, story }: LineUp): string {
  return `\n${`${index}/${count}`.padEnd(INDENT.length)}${title.toUpperCase()}\n${paragraph(story, INDENT)}\n`;
}

export function result({ negotiated, mode, explanation, transfers, iotlb }: LineUpResult): string {
  return [
    row("bit 33", journeyOfBit33(negotiated)),
    row("features in use", features(negotiated.toldToDevice)),
    row("translation", `${mode.toUpperCase()}. ${explanation}`),
    ...transfers.map((transfer) => row(transfer.direction, moved(transfer))),
    ...(iotlb === undefined ? [] : [row("IOTLB", counts(iotlb))]),
  ].join("\n");
}

export function failure(reason: string): string {
  return row("FAILED", reason);
}

export function conclusion(intact: number, all: number, seconds: number): string {
  const time = `${seconds.toFixed(1)} s`;
  if (intact === all)
    return `\nAll ${all} transfers arrived intact, with equal SHA-256 at both ends (${time}).`;
  return `\nOnly ${intact} of ${all} transfers arrived intact (${time}). This is a bug: please report it.`;
}

/** Who did what with the bit, from the device through the VMM to the guest and back. */
function journeyOfBit33(negotiated: Negotiated): string {
  const has33 = (word: string) => has(BigInt(word), F.ACCESS_PLATFORM);
  const steps = [
    has33(negotiated.offeredByDevice) ? "the device offers it" : "the device does not offer it",
    has33(negotiated.offeredToGuest) ? "the VMM offers it to the guest" : "the VMM hides it from the guest",
  ];
  if (has33(negotiated.offeredToGuest))
    steps.push(has33(negotiated.takenByGuest) ? "the guest takes it" : "the guest leaves it");
  if (has33(negotiated.takenByGuest))
    steps.push(has33(negotiated.toldToDevice) ? "the VMM passes it on" : "the VMM masks it");
  return steps.join(" → ");
}

/** The names of the bits that were negotiated; bit 30 is no business of the guest's. */
function features(word: string): string {
  return bitsOf(BigInt(word))
    .filter((bit) => bit !== F.PROTOCOL_FEATURES)
    .map((bit) => virtioFeature(bit, "vsock")?.name ?? `bit ${bit}`)
    .join(", ");
}

function moved(transfer: Transfer): string {
  const mib = transfer.bytes / 2 ** 20;
  const rate = transfer.bytesReceived / 2 ** 20 / transfer.seconds;
  const speed = `${mib} MiB in ${transfer.seconds.toFixed(2)} s (${rate.toFixed(0)} MiB/s)`;
  if (isIntact(transfer)) return `${speed}; SHA-256 ${transfer.sumSent.slice(0, 12)}… at both ends`;
  return (
    `${speed}; NOT INTACT: ${transfer.bytes} bytes with SHA-256 ${transfer.sumSent} were sent, ` +
    `${transfer.bytesReceived} bytes with ${transfer.sumReceived} arrived`
  );
}

function counts({ misses, updates, invalidations }: IotlbCounts): string {
  return `the device asked ${misses} times (MISS); ${updates} pages mapped (UPDATE), ${invalidations} ranges taken back (INVALIDATE)`;
}

function row(label: string, text: string): string {
  return labelled(label, text, INDENT, LABEL_WIDTH);
}
