/**
 * A vsock packet as captures hold it: link type VSOCK (271), what Linux's vsockmon device gives out (include/uapi/linux/
 * vsockmon.h, net/vmw_vsock/virtio_transport_common.c). tshark decodes it. Must not know where packets were seen.
 */
import { decodeStruct, defineLayout, encodeStruct, viewOf } from "../../virtio/index.js";
import { HEADER_BYTES, Op, PacketHeader } from "../../vsock/header.js";

/** LINKTYPE_VSOCK. */
export const VSOCK_LINK_TYPE = 271;

/**
 *     struct af_vsockmon_hdr {
 *         __le64 src_cid; __le64 dst_cid; __le32 src_port; __le32 dst_port;
 *         __le16 op; __le16 transport; __le16 len; __u8 reserved[2];
 *     };
 *
 * `len` bytes of the transport's own header follow, then the payload.
 */
export const VSOCKMON_HEADER = defineLayout("struct af_vsockmon_hdr", 32, [
  { name: "srcCid", offset: 0, width: 8 },
  { name: "dstCid", offset: 8, width: 8 },
  { name: "srcPort", offset: 16, width: 4 },
  { name: "dstPort", offset: 20, width: 4 },
  { name: "op", offset: 24, width: 2 },
  { name: "transport", offset: 26, width: 2 },
  { name: "transportBytes", offset: 28, width: 2 },
  { name: "_reserved", offset: 30, width: 2 },
]);

/** enum af_vsockmon_op. */
export const VSOCKMON_OP = { unknown: 0, connect: 1, disconnect: 2, control: 3, payload: 4 } as const;
/** enum af_vsockmon_transport: AF_VSOCK_TRANSPORT_VIRTIO. */
const TRANSPORT_VIRTIO = 2;

/** What virtio's operations are to vsockmon: virtio_transport_build_skb(). */
const OP_OF: Readonly<Record<number, number>> = {
  [Op.REQUEST]: VSOCKMON_OP.connect,
  [Op.RESPONSE]: VSOCKMON_OP.connect,
  [Op.RST]: VSOCKMON_OP.disconnect,
  [Op.SHUTDOWN]: VSOCKMON_OP.disconnect,
  [Op.RW]: VSOCKMON_OP.payload,
  [Op.CREDIT_UPDATE]: VSOCKMON_OP.control,
  [Op.CREDIT_REQUEST]: VSOCKMON_OP.control,
};

const MARK = VSOCKMON_HEADER.byteLength + HEADER_BYTES;

/**
 * One packet, as a capture holds it.
 *
 * @param header the 44 bytes of struct virtio_vsock_hdr, as they stood in the ring
 * @param payload what of the payload is to be kept; the packet's own length says how much there was
 */
export function encodeVsockPacket(header: Uint8Array, payload: Uint8Array): Uint8Array {
  if (header.byteLength !== HEADER_BYTES)
    throw new RangeError(`a vsock header has ${HEADER_BYTES} bytes, not ${header.byteLength}`);
  const packet = new PacketHeader();
  packet.read(viewOf(header), 0);
  const bytes = new Uint8Array(MARK + payload.byteLength);
  const cid = (low: number, high: number): bigint => (BigInt(high) << 32n) | BigInt(low);
  const mon = {
    srcCid: cid(packet.srcCid, packet.srcCidHigh),
    dstCid: cid(packet.dstCid, packet.dstCidHigh),
    srcPort: packet.srcPort,
    dstPort: packet.dstPort,
    op: OP_OF[packet.op] ?? VSOCKMON_OP.unknown,
    transport: TRANSPORT_VIRTIO,
    transportBytes: HEADER_BYTES,
  };
  encodeStruct(VSOCKMON_HEADER, mon, viewOf(bytes), 0, true);
  bytes.set(header, VSOCKMON_HEADER.byteLength);
  bytes.set(payload, MARK);
  return bytes;
}

/** How long a packet of `payloadBytes` is in a capture that keeps all of it. */
export function vsockPacketBytes(payloadBytes: number): number {
  return MARK + payloadBytes;
}

/** What the interface is called that has the packets of one ring. */
export function vsockInterfaceName(session: number, ring: number): string {
  return `vsock-${session}-q${ring}`;
}

/** Session and ring of an interface; undefined for one that somebody else named. */
export function vsockInterface(name: string): { session: number; ring: number } | undefined {
  const [, session, ring] = /^vsock-(\d+)-q(\d+)$/.exec(name) ?? [];
  return session === undefined ? undefined : { session: Number(session), ring: Number(ring) };
}

export interface CapturedVsockPacket {
  readonly op: number;
  /** The 44 bytes of struct virtio_vsock_hdr. */
  readonly headerBytes: Uint8Array;
  readonly header: PacketHeader;
  readonly payload: Uint8Array;
}

/** The packet, or a clause that says why it is none. */
export function decodeVsockPacket(bytes: Uint8Array): CapturedVsockPacket | string {
  if (bytes.byteLength < VSOCKMON_HEADER.byteLength) return `${bytes.byteLength} bytes are too few`;
  const { op, transport, transportBytes } = decodeStruct(VSOCKMON_HEADER, viewOf(bytes), 0, true);
  if (transport !== TRANSPORT_VIRTIO || transportBytes !== HEADER_BYTES)
    return `its transport (${transport}, ${transportBytes} bytes) is not virtio's`;
  if (bytes.byteLength < MARK) return `${bytes.byteLength} bytes are too few for a virtio header`;
  const header = new PacketHeader();
  header.read(viewOf(bytes), VSOCKMON_HEADER.byteLength);
  const headerBytes = bytes.slice(VSOCKMON_HEADER.byteLength, MARK);
  return { op, headerBytes, header, payload: bytes.slice(MARK) };
}
