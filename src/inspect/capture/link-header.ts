/**
 * What stands before each vhost-user message in a capture, on link type USER0 (147, "reserved for private use"): whose
 * message it is, on which socket, which way, and the descriptors with it. Besides messages, a packet can be one of the
 * few facts that no message shows. docs/captures.md has the same table for others who read such files.
 */
import { decodeStruct, defineLayout, encodeStruct, viewOf } from "../../virtio/index.js";
import type { DescriptorKind, Ender, FrameChannel, FrameDirection } from "../frame.js";

/** LINKTYPE_USER0. */
export const VHOST_USER_LINK_TYPE = 147;

/** "vhuf", so that a reader can tell it from what others put on the same link type. */
export const LINK_MAGIC = 0x66756876;
const VERSION = 1;

/** Always little-endian, whatever the byte order of the messages. */
export const LINK_HEADER = defineLayout("vhost-user capture header", 20, [
  { name: "magic", offset: 0, width: 4 },
  { name: "version", offset: 4, width: 1 },
  { name: "kind", offset: 5, width: 1 },
  /** With the kinds of descriptors that follow: where the message begins. */
  { name: "headerBytes", offset: 6, width: 2 },
  { name: "session", offset: 8, width: 4 },
  { name: "channel", offset: 12, width: 1 },
  { name: "direction", offset: 13, width: 1 },
  { name: "flags", offset: 14, width: 1 },
  { name: "ender", offset: 15, width: 1 },
  { name: "descriptorCount", offset: 16, width: 2 },
  { name: "_reserved", offset: 18, width: 2 },
]);

/** What a packet is. The text of `ended`, `remark` and `rings` follows the header in UTF-8. */
export const LINK_KIND = { message: 0, begun: 1, ended: 2, remark: 3, time: 4, rings: 5 } as const;
export type LinkKind = keyof typeof LINK_KIND;

export const LINK_FLAG = {
  /** One byte a descriptor follows the fixed part: its kind. */
  descriptorKinds: 1,
  /** Of a remark: messages may be missing here. */
  gap: 2,
  /** Of a remark: the stream itself is broken. */
  broken: 4,
} as const;

export const LINK_CHANNELS: readonly FrameChannel[] = ["main", "backend"];
export const LINK_DIRECTIONS: readonly FrameDirection[] = ["to-backend", "to-frontend"];
export const LINK_ENDERS: readonly Ender[] = ["front-end", "back-end", "observer"];
export const LINK_DESCRIPTOR_KINDS: readonly DescriptorKind[] = [
  "memory",
  "eventfd",
  "socket",
  "pipe",
  "other",
];

export interface LinkPacket {
  readonly kind: LinkKind;
  readonly session: number;
  readonly channel: FrameChannel;
  readonly direction: FrameDirection;
  readonly ender: Ender;
  readonly isGap: boolean;
  readonly isBroken: boolean;
  readonly descriptorCount: number;
  readonly descriptorKinds: readonly DescriptorKind[] | undefined;
  /** The message, or the text. */
  readonly body: Uint8Array;
}

/** What a packet has that says nothing about it. */
export const PLAIN_LINK = {
  channel: "main",
  direction: "to-backend",
  ender: "observer",
  isGap: false,
  isBroken: false,
  descriptorCount: 0,
  descriptorKinds: undefined,
  body: new Uint8Array(0),
} as const satisfies Partial<LinkPacket>;

export function encodeLink(packet: LinkPacket): Uint8Array {
  const kinds = packet.descriptorKinds ?? [];
  const headerBytes = LINK_HEADER.byteLength + kinds.length;
  const bytes = new Uint8Array(headerBytes + packet.body.byteLength);
  const flags =
    (packet.descriptorKinds === undefined ? 0 : LINK_FLAG.descriptorKinds) |
    (packet.isGap ? LINK_FLAG.gap : 0) |
    (packet.isBroken ? LINK_FLAG.broken : 0);
  const header = {
    magic: LINK_MAGIC,
    version: VERSION,
    kind: LINK_KIND[packet.kind],
    headerBytes,
    session: packet.session,
    channel: LINK_CHANNELS.indexOf(packet.channel),
    direction: LINK_DIRECTIONS.indexOf(packet.direction),
    flags,
    ender: LINK_ENDERS.indexOf(packet.ender),
    descriptorCount: packet.descriptorCount,
  };
  encodeStruct(LINK_HEADER, header, viewOf(bytes), 0, true);
  bytes.set(
    kinds.map((kind) => LINK_DESCRIPTOR_KINDS.indexOf(kind)),
    LINK_HEADER.byteLength,
  );
  bytes.set(packet.body, headerBytes);
  return bytes;
}

/** The packet, or a clause that says why it is none of ours. */
export function decodeLink(bytes: Uint8Array): LinkPacket | string {
  if (bytes.byteLength < LINK_HEADER.byteLength)
    return `${bytes.byteLength} bytes are too few for the header of a vhost-user packet`;
  const header = decodeStruct(LINK_HEADER, viewOf(bytes), 0, true);
  if (header.magic !== LINK_MAGIC) return "it does not begin with the mark of a vhost-user packet";
  if (header.version !== VERSION) return `version ${header.version} of the packet header is not known here`;
  const { headerBytes, descriptorCount, flags } = header;
  const hasKinds = (flags & LINK_FLAG.descriptorKinds) !== 0;
  const least = LINK_HEADER.byteLength + (hasKinds ? descriptorCount : 0);
  if (headerBytes < least || headerBytes > bytes.byteLength)
    return `a header of ${headerBytes} bytes does not fit (${least} to ${bytes.byteLength})`;
  const kind = (Object.keys(LINK_KIND) as LinkKind[]).find((name) => LINK_KIND[name] === header.kind);
  const channel = LINK_CHANNELS[header.channel];
  const direction = LINK_DIRECTIONS[header.direction];
  const ender = LINK_ENDERS[header.ender];
  if (kind === undefined) return `packets of kind ${header.kind} are not known here`;
  if (channel === undefined || direction === undefined || ender === undefined)
    return `channel ${header.channel}, direction ${header.direction} or ender ${header.ender} is none`;
  const kinds = bytes.subarray(LINK_HEADER.byteLength, LINK_HEADER.byteLength + descriptorCount);
  return {
    kind,
    session: header.session,
    channel,
    direction,
    ender,
    isGap: (flags & LINK_FLAG.gap) !== 0,
    isBroken: (flags & LINK_FLAG.broken) !== 0,
    descriptorCount,
    descriptorKinds: hasKinds
      ? [...kinds].map((each) => LINK_DESCRIPTOR_KINDS[each] ?? ("other" as const))
      : undefined,
    // A copy that is no Buffer, whatever it was read into: a Buffer turns into JSON of its own.
    body: new Uint8Array(bytes.subarray(headerBytes)),
  };
}
