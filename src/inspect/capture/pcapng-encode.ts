/**
 * Blocks of a pcapng file, as bytes, in this machine's byte order. The reader of the same blocks is pcapng-reader.ts; must
 * not know files, nor what packets hold.
 */
import { type Decoded, encodeStruct, type Layout, viewOf } from "../../virtio/index.js";
import {
  BLOCK,
  BLOCK_HEAD,
  BLOCK_TAIL_BYTES,
  BYTE_ORDER_MAGIC,
  INTERFACE,
  NANOSECONDS,
  OPTION,
  OPTION_HEAD,
  PACKET,
  padded,
  SECTION,
} from "./pcapng-layout.js";

const NOT_SPECIFIED = 2n ** 64n - 1n;
const MOST_OPTION_BYTES = 0xffff;

interface Option {
  readonly code: number;
  readonly value: string | Uint8Array;
}

export interface SectionInfo {
  readonly application: string;
  readonly comment?: string;
}

export function sectionBlock({ application, comment }: SectionInfo): Uint8Array {
  const head = { magic: BYTE_ORDER_MAGIC, major: 1, minor: 0, sectionBytes: NOT_SPECIFIED };
  return block(BLOCK.section, pack(SECTION, head), [
    ...comments(comment === undefined ? [] : [comment]),
    { code: OPTION.userApplication, value: application },
  ]);
}

export interface InterfaceInfo {
  readonly linkType: number;
  readonly name: string;
  readonly description: string;
}

/** Its packets' times are nanoseconds. */
export function interfaceBlock({ linkType, name, description }: InterfaceInfo): Uint8Array {
  return block(BLOCK.interface, pack(INTERFACE, { linkType, snapBytes: 0 }), [
    { code: OPTION.interfaceName, value: name },
    { code: OPTION.interfaceDescription, value: description },
    { code: OPTION.timeResolution, value: Uint8Array.of(NANOSECONDS) },
  ]);
}

export interface PacketInfo {
  /** Position of its interface's block in the section, from 0 on. */
  readonly interface: number;
  readonly timeNs: bigint;
  /** The packet, or its beginning. */
  readonly bytes: Uint8Array;
  /** How long it was, if that is more. */
  readonly originalBytes?: number;
  readonly comments?: readonly string[];
}

export function packetBlock(packet: PacketInfo): Uint8Array {
  const { bytes, timeNs } = packet;
  const head = pack(PACKET, {
    interface: packet.interface,
    timeHigh: Number(timeNs >> 32n),
    timeLow: Number(timeNs & 0xffff_ffffn),
    capturedBytes: bytes.byteLength,
    originalBytes: packet.originalBytes ?? bytes.byteLength,
  });
  const body = new Uint8Array(head.byteLength + padded(bytes.byteLength));
  body.set(head);
  body.set(bytes, head.byteLength);
  return block(BLOCK.packet, body, comments(packet.comments ?? []));
}

function comments(texts: readonly string[]): Option[] {
  return texts.map((value) => ({ code: OPTION.comment, value }));
}

function block(type: number, fixed: Uint8Array, options: readonly Option[]): Uint8Array {
  const encoded = options.map(optionBytes);
  if (encoded.length > 0) encoded.push(optionBytes({ code: OPTION.end, value: "" }));
  const optionsBytes = encoded.reduce((sum, each) => sum + each.byteLength, 0);
  const blockBytes = BLOCK_HEAD.byteLength + fixed.byteLength + optionsBytes + BLOCK_TAIL_BYTES;
  const bytes = new Uint8Array(blockBytes);
  bytes.set(pack(BLOCK_HEAD, { type, blockBytes }));
  bytes.set(fixed, BLOCK_HEAD.byteLength);
  let at = BLOCK_HEAD.byteLength + fixed.byteLength;
  for (const each of encoded) {
    bytes.set(each, at);
    at += each.byteLength;
  }
  bytes.set(pack(BLOCK_HEAD, { type, blockBytes }).subarray(BLOCK_TAIL_BYTES), at);
  return bytes;
}

function optionBytes({ code, value }: Option): Uint8Array {
  const whole = typeof value === "string" ? new TextEncoder().encode(value) : value;
  const content = whole.subarray(0, MOST_OPTION_BYTES);
  const bytes = new Uint8Array(OPTION_HEAD.byteLength + padded(content.byteLength));
  bytes.set(pack(OPTION_HEAD, { code, valueBytes: content.byteLength }));
  bytes.set(content, OPTION_HEAD.byteLength);
  return bytes;
}

function pack<L extends Layout>(layout: L, value: Decoded<L>): Uint8Array {
  const bytes = new Uint8Array(layout.byteLength);
  encodeStruct(layout, value, viewOf(bytes), 0);
  return bytes;
}
