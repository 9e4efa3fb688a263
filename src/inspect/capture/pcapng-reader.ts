/**
 * Reads a pcapng file block by block, in either byte order, with any number of sections: its packets come out with their
 * interface and their time in nanoseconds. Blocks of other types are passed over. A file that cannot go on gives a
 * CaptureError that names the block and its place, after everything before it. Must not know what packets hold.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { decodeStruct, viewOf } from "../../virtio/index.js";
import { CaptureError, type CaptureErrorCode, placeOf, systemReason } from "./error.js";
import {
  BLOCK,
  BLOCK_HEAD,
  BLOCK_TAIL_BYTES,
  BYTE_ORDER_MAGIC,
  INTERFACE,
  MOST_BLOCK_BYTES,
  OPTION,
  OPTION_HEAD,
  PACKET,
  padded,
  SECTION,
} from "./pcapng-layout.js";

export interface CapturedInterface {
  readonly linkType: number;
  readonly name: string;
  /** Nanoseconds of a time that a packet gives in units. */
  toNs(units: bigint): bigint;
}

/** The times that are taken: 1970 up to where nanoseconds leave 63 bits, in 2262. What shows dates can show them all. */
const END_OF_TIME_NS = 2n ** 63n;

export interface CapturedPacket {
  readonly interface: CapturedInterface;
  /** Since 1970. At least 0, less than 2^63. */
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** More than there are bytes, if the packet was cut when it was captured. */
  readonly originalBytes: number;
  readonly comments: readonly string[];
  /** For messages: `FILE, block N (Enhanced Packet) at byte M`. */
  readonly place: string;
}

const TYPE_NAMES: Readonly<Record<number, string>> = {
  [BLOCK.section]: "Section Header",
  [BLOCK.interface]: "Interface Description",
  [BLOCK.packet]: "Enhanced Packet",
};

/** The first bytes of files that are often taken for pcapng, in either byte order. */
const CLASSIC_MAGICS: readonly number[] = [0xa1b2c3d4, 0xd4c3b2a1, 0xa1b23c4d, 0x4d3cb2a1];

/** Throws a CaptureError where the file ends to be readable; what was yielded before stays good. */
export function* readPackets(path: string): Generator<CapturedPacket, void, undefined> {
  const file = new BlockFile(path);
  try {
    const interfaces: CapturedInterface[] = [];
    for (let block = file.next(); block !== undefined; block = file.next()) {
      if (block.type === BLOCK.section) interfaces.length = 0;
      else if (block.type === BLOCK.interface) interfaces.push(readInterface(block));
      else if (block.type === BLOCK.packet) yield readPacket(block, interfaces);
    }
  } finally {
    file.close();
  }
}

/** One block, without the two lengths around its body. */
class Block {
  constructor(
    readonly type: number,
    readonly body: Uint8Array,
    readonly little: boolean,
    readonly place: string,
  ) {}

  get view(): DataView {
    return viewOf(this.body);
  }

  fault(message: string): CaptureError {
    return new CaptureError("capture-damaged", this.place, message);
  }

  /** Options from `at` on, up to the end mark or the end of the block. */
  *options(at: number): Generator<{ readonly code: number; readonly value: Uint8Array }> {
    while (at + OPTION_HEAD.byteLength <= this.body.byteLength) {
      const { code, valueBytes } = decodeStruct(OPTION_HEAD, this.view, at, this.little);
      if (code === OPTION.end) return;
      at += OPTION_HEAD.byteLength;
      if (at + valueBytes > this.body.byteLength)
        throw this.fault(`option ${code} has ${valueBytes} bytes, and ${this.body.byteLength - at} are left`);
      yield { code, value: this.body.subarray(at, at + valueBytes) };
      at += padded(valueBytes);
    }
  }
}

function readInterface(block: Block): CapturedInterface {
  if (block.body.byteLength < INTERFACE.byteLength) throw block.fault("it is too short for its fields");
  const { linkType } = decodeStruct(INTERFACE, block.view, 0, block.little);
  let name = "";
  let resolution = 6;
  let offsetNs = 0n;
  for (const { code, value } of block.options(INTERFACE.byteLength)) {
    if (code === OPTION.interfaceName) name = text(value);
    if (code === OPTION.timeResolution && value.byteLength === 1) resolution = value[0] ?? resolution;
    if (code === OPTION.timeOffset && value.byteLength === 8)
      offsetNs = viewOf(value).getBigInt64(0, block.little) * 1_000_000_000n;
  }
  // "If the Most Significant Bit is equal to zero, the remaining bits indicate the resolution as a negative power of 10
  // […]. If it is equal to one, […] as a negative power of 2." (pcapng, if_tsresol)
  const base = (resolution & 0x80) === 0 ? 10n : 2n;
  const unitsASecond = base ** BigInt(resolution & 0x7f);
  return { linkType, name, toNs: (units) => offsetNs + (units * 1_000_000_000n) / unitsASecond };
}

function readPacket(block: Block, interfaces: readonly CapturedInterface[]): CapturedPacket {
  if (block.body.byteLength < PACKET.byteLength) throw block.fault("it is too short for its fields");
  const head = decodeStruct(PACKET, block.view, 0, block.little);
  const from = interfaces[head.interface];
  if (from === undefined) {
    throw block.fault(
      `it names interface ${head.interface}, and the section has described ${interfaces.length}`,
    );
  }
  const end = PACKET.byteLength + head.capturedBytes;
  if (end > block.body.byteLength)
    throw block.fault(`its packet of ${head.capturedBytes} bytes is longer than the block`);
  const timeNs = from.toNs((BigInt(head.timeHigh) << 32n) | BigInt(head.timeLow));
  if (timeNs < 0n || timeNs >= END_OF_TIME_NS)
    throw block.fault(
      `its packet is of ${timeNs} ns since 1970, which is before that or behind the year 2262`,
    );
  const comments = [...block.options(PACKET.byteLength + padded(head.capturedBytes))]
    .filter(({ code }) => code === OPTION.comment)
    .map(({ value }) => text(value));
  return {
    interface: from,
    timeNs,
    bytes: block.body.subarray(PACKET.byteLength, end),
    originalBytes: head.originalBytes,
    comments,
    place: block.place,
  };
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

/** The file as a row of blocks. */
class BlockFile {
  readonly #fd: number;
  #offset = 0;
  #count = 0;
  #little = true;

  constructor(readonly path: string) {
    try {
      this.#fd = openSync(path, "r");
    } catch (error) {
      throw new CaptureError("capture-unreadable", path, `it cannot be read (${systemReason(error)})`);
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** The next block; undefined at the end of the file. */
  next(): Block | undefined {
    const at = this.#offset;
    const head = this.#read(BLOCK_HEAD.byteLength);
    if (head.byteLength === 0 && at > 0) return undefined;
    this.#count++;
    if (at === 0) this.#checkBeginning(head);
    if (head.byteLength < BLOCK_HEAD.byteLength)
      throw this.#error("capture-cut", "?", at, `the file ends ${head.byteLength} bytes into it`);
    // The type of a section's block reads the same in both orders; its magic says which it is.
    const isSection = viewOf(head).getUint32(0) === BLOCK.section;
    const magic = isSection ? this.#read(BYTE_ORDER_BYTES) : new Uint8Array(0);
    if (isSection) this.#takeOrder(magic, at);
    const { type, blockBytes } = decodeStruct(BLOCK_HEAD, viewOf(head), 0, this.#little);
    const name = TYPE_NAMES[type] ?? `type 0x${type.toString(16)}`;
    if (blockBytes % 4 !== 0 || blockBytes < BLOCK_HEAD.byteLength + magic.byteLength + BLOCK_TAIL_BYTES)
      throw this.#error("capture-damaged", name, at, `a length of ${blockBytes} bytes is none`);
    if (blockBytes > MOST_BLOCK_BYTES)
      throw this.#error(
        "capture-damaged",
        name,
        at,
        `${blockBytes} bytes are more than any block here has (${MOST_BLOCK_BYTES})`,
      );
    const rest = this.#read(blockBytes - head.byteLength - magic.byteLength);
    const got = head.byteLength + magic.byteLength + rest.byteLength;
    if (got < blockBytes)
      throw this.#error(
        "capture-cut",
        name,
        at,
        `it has ${blockBytes} bytes, and the file ends after ${got}`,
      );
    const bodyBytes = rest.byteLength - BLOCK_TAIL_BYTES;
    const again = viewOf(rest).getUint32(bodyBytes, this.#little);
    if (again !== blockBytes)
      throw this.#error(
        "capture-damaged",
        name,
        at,
        `it begins with a length of ${blockBytes} bytes and ends with ${again}`,
      );
    const body = Buffer.concat([magic, rest.subarray(0, bodyBytes)]);
    const block = new Block(type, body, this.#little, placeOf(this.path, this.#count, name, at));
    if (isSection) checkSection(block);
    return block;
  }

  /** Up to `bytes` bytes; fewer at the end of the file. */
  #read(bytes: number): Uint8Array {
    const buffer = new Uint8Array(bytes);
    let got = 0;
    while (got < bytes) {
      const count = this.#readSome(buffer, got);
      if (count === 0) break;
      got += count;
    }
    this.#offset += got;
    return buffer.subarray(0, got);
  }

  #readSome(buffer: Uint8Array, at: number): number {
    try {
      return readSync(this.#fd, buffer, at, buffer.byteLength - at, null);
    } catch (error) {
      throw new CaptureError("capture-unreadable", this.path, `it cannot be read (${systemReason(error)})`);
    }
  }

  #checkBeginning(head: Uint8Array): void {
    const first = head.byteLength < 4 ? 0 : viewOf(head).getUint32(0);
    if (first === BLOCK.section) return;
    const problem = CLASSIC_MAGICS.includes(first)
      ? 'this is a pcap file, not a pcapng one; convert it: editcap -F pcapng "OLD" "NEW"'
      : "this is no pcapng file: it does not begin with a Section Header Block";
    throw this.#error("capture-format", "?", 0, problem);
  }

  #takeOrder(magic: Uint8Array, at: number): void {
    const value = magic.byteLength < BYTE_ORDER_BYTES ? 0 : viewOf(magic).getUint32(0, true);
    if (value === BYTE_ORDER_MAGIC) this.#little = true;
    else if (value === SWAPPED_MAGIC) this.#little = false;
    else throw this.#error("capture-damaged", "Section Header", at, "its byte-order magic is not there");
  }

  #error(code: CaptureErrorCode, type: string, offset: number, message: string): CaptureError {
    return new CaptureError(code, placeOf(this.path, this.#count, type, offset), message);
  }
}

const BYTE_ORDER_BYTES = 4;
const SWAPPED_MAGIC = 0x4d3c2b1a;

function checkSection(block: Block): void {
  if (block.body.byteLength < SECTION.byteLength) throw block.fault("it is too short for its fields");
  const { major, minor } = decodeStruct(SECTION, block.view, 0, block.little);
  if (major !== 1) throw block.fault(`version ${major}.${minor} of the format is not known here`);
}
