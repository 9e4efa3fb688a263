/** The 12-byte header of every vhost-user message (vhost-user, Message Specification, Header). */
import { type Decoded, decodeStruct, defineLayout, encodeStruct, viewOf } from "../../virtio/index.js";
import { HEADER_BYTES } from "./limits.js";

/**
 *     typedef struct { uint32_t request; uint32_t flags; uint32_t size; } QEMU_PACKED VhostUserHeader;
 */
export const HEADER = defineLayout("VhostUserHeader", HEADER_BYTES, [
  { name: "request", offset: 0, width: 4 },
  { name: "flags", offset: 4, width: 4 },
  { name: "size", offset: 8, width: 4 },
]);

/** A header as it is on the wire; flags bits that nobody assigned are kept. */
export type Header = Decoded<typeof HEADER>;

/** Values in the flags field (vhost-user, Header): two version bits, then one bit each. */
export const FLAG = { versionMask: 3, version: 1, reply: 4, needReply: 8 } as const;

/** Whether the message answers another. */
export function isReply(header: Header): boolean {
  return (header.flags & FLAG.reply) !== 0;
}

/** Whether the sender asks for an answer; it counts only if REPLY_ACK was negotiated. */
export function needsReply(header: Header): boolean {
  return (header.flags & FLAG.needReply) !== 0;
}

/** Reads a header at `base`. Does **not** check bounds: the caller has at least HEADER_BYTES there. */
export function decodeHeader(bytes: Uint8Array, base = 0): Header {
  return decodeStruct(HEADER, viewOf(bytes), base);
}

/** Writes a header at `base`. */
export function encodeHeader(header: Header, bytes: Uint8Array, base = 0): void {
  encodeStruct(HEADER, header, viewOf(bytes), base);
}
