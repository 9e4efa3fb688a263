/**
 * The pcapng file format as far as it is read and written here: block types, their fixed parts as tables, options. Source:
 * draft-ietf-opsawg-pcapng. Knows no link type and nothing of what packets hold.
 */
import { defineLayout } from "../../virtio/index.js";

export const BLOCK = {
  section: 0x0a0d0d0a,
  interface: 1,
  packet: 6,
} as const;

/** Written in the writer's byte order, so that a reader can tell which that was. */
export const BYTE_ORDER_MAGIC = 0x1a2b3c4d;

/** What opens every block; the same length stands once more at its end. */
export const BLOCK_HEAD = defineLayout("pcapng block", 8, [
  { name: "type", offset: 0, width: 4 },
  { name: "blockBytes", offset: 4, width: 4 },
]);

/** Block Total Length, a second time. */
export const BLOCK_TAIL_BYTES = 4;

/** Section Header Block, after the head. A section length of -1 is "not specified". */
export const SECTION = defineLayout("Section Header Block", 16, [
  { name: "magic", offset: 0, width: 4 },
  { name: "major", offset: 4, width: 2 },
  { name: "minor", offset: 6, width: 2 },
  { name: "sectionBytes", offset: 8, width: 8 },
]);

/** Interface Description Block, after the head. A snap length of 0 is "no limit". */
export const INTERFACE = defineLayout("Interface Description Block", 8, [
  { name: "linkType", offset: 0, width: 2 },
  { name: "_reserved", offset: 2, width: 2 },
  { name: "snapBytes", offset: 4, width: 4 },
]);

/** Enhanced Packet Block, after the head. The time counts in units of its interface's resolution. */
export const PACKET = defineLayout("Enhanced Packet Block", 20, [
  { name: "interface", offset: 0, width: 4 },
  { name: "timeHigh", offset: 4, width: 4 },
  { name: "timeLow", offset: 8, width: 4 },
  { name: "capturedBytes", offset: 12, width: 4 },
  { name: "originalBytes", offset: 16, width: 4 },
]);

/** What opens an option; its value is padded to four bytes, which its length does not count. */
export const OPTION_HEAD = defineLayout("pcapng option", 4, [
  { name: "code", offset: 0, width: 2 },
  { name: "valueBytes", offset: 2, width: 2 },
]);

/** Option codes. 0 and 1 mean the same in every block, the others belong to theirs. */
export const OPTION = {
  end: 0,
  comment: 1,
  /** Section: the program that wrote it. */
  userApplication: 4,
  /** Interface: its name and what it is. */
  interfaceName: 2,
  interfaceDescription: 3,
  /** Interface: the unit of times. Without it: 10^-6 s. */
  timeResolution: 9,
  /** Interface: seconds to be added to its times. */
  timeOffset: 14,
} as const;

/** `if_tsresol` for nanoseconds: 10 to the power of minus nine. */
export const NANOSECONDS = 9;

/** Our choice: no block that is read is longer. A vhost-user message has 64 KiB at most here. */
export const MOST_BLOCK_BYTES = 16 * 1024 * 1024;

export const CAPTURE_LAYOUTS = [BLOCK_HEAD, SECTION, INTERFACE, PACKET, OPTION_HEAD] as const;

export function padded(bytes: number): number {
  return (bytes + 3) & ~3;
}
