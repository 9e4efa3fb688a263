/**
 * The packet header of virtio-vsock: layout, reading, writing, printing.
 * Knows nothing of connections. Next: `connection.ts`.
 */

/**
 * virtio 1.4, 5.10.6:
 *
 *     struct virtio_vsock_hdr {
 *         le64 src_cid; le64 dst_cid; le32 src_port; le32 dst_port; le32 len;
 *         le16 type; le16 op; le32 flags; le32 buf_alloc; le32 fwd_cnt;
 *     };
 */
export const HEADER_LAYOUT = [
  { name: "srcCid", offset: 0, width: 8 },
  { name: "dstCid", offset: 8, width: 8 },
  { name: "srcPort", offset: 16, width: 4 },
  { name: "dstPort", offset: 20, width: 4 },
  { name: "len", offset: 24, width: 4 },
  { name: "type", offset: 28, width: 2 },
  { name: "op", offset: 30, width: 2 },
  { name: "flags", offset: 32, width: 4 },
  { name: "bufAlloc", offset: 36, width: 4 },
  { name: "fwdCnt", offset: 40, width: 4 },
] as const;

export const HEADER_BYTES = 44;

/** virtio 1.4, 5.10.6.1: VIRTIO_VSOCK_TYPE_*. */
export const SocketType = { STREAM: 1, SEQPACKET: 2 } as const;

/** virtio 1.4, 5.10.6: VIRTIO_VSOCK_OP_*. */
export const Op = {
  INVALID: 0,
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;

/** Flags of SHUTDOWN: what the sender of the packet will not do any more (virtio 1.4, 5.10.6.6). Permanent. */
export const Shutdown = { RECEIVE: 1, SEND: 2, BOTH: 3 } as const;

/**
 * Flags of RW between seqpacket sockets: the packet ends its message, and a record of the application's (MSG_EOR) as
 * well (virtio 1.4, 5.10.6.5).
 */
export const MessageEnd = { EOM: 1, EOR: 2 } as const;

/** The CID of the host (virtio 1.4, 5.10.4). */
export const HOST_CID = 2;

/**
 * One header, decoded. CIDs are kept as 32-bit halves: the upper ones are reserved and zero, and a guest that sets
 * them must not be mistaken for another.
 */
export class PacketHeader {
  srcCid = 0;
  srcCidHigh = 0;
  dstCid = 0;
  dstCidHigh = 0;
  srcPort = 0;
  dstPort = 0;
  len = 0;
  type = 0;
  op = 0;
  flags = 0;
  bufAlloc = 0;
  fwdCnt = 0;

  /** Reads 44 bytes at `offset`, each field once: the memory may be a guest's, who may be changing it. */
  read(data: DataView, offset: number): void {
    this.srcCid = data.getUint32(offset, true);
    this.srcCidHigh = data.getUint32(offset + 4, true);
    this.dstCid = data.getUint32(offset + 8, true);
    this.dstCidHigh = data.getUint32(offset + 12, true);
    this.srcPort = data.getUint32(offset + 16, true);
    this.dstPort = data.getUint32(offset + 20, true);
    this.len = data.getUint32(offset + 24, true);
    this.type = data.getUint16(offset + 28, true);
    this.op = data.getUint16(offset + 30, true);
    this.flags = data.getUint32(offset + 32, true);
    this.bufAlloc = data.getUint32(offset + 36, true);
    this.fwdCnt = data.getUint32(offset + 40, true);
  }

  write(data: DataView, offset: number): void {
    data.setUint32(offset, this.srcCid, true);
    data.setUint32(offset + 4, this.srcCidHigh, true);
    data.setUint32(offset + 8, this.dstCid, true);
    data.setUint32(offset + 12, this.dstCidHigh, true);
    data.setUint32(offset + 16, this.srcPort, true);
    data.setUint32(offset + 20, this.dstPort, true);
    data.setUint32(offset + 24, this.len, true);
    data.setUint16(offset + 28, this.type, true);
    data.setUint16(offset + 30, this.op, true);
    data.setUint32(offset + 32, this.flags, true);
    data.setUint32(offset + 36, this.bufAlloc, true);
    data.setUint32(offset + 40, this.fwdCnt, true);
  }
}

const OP_NAMES = Object.keys(Op);

/** "RW", or "op 9" for a number that no specification names. */
export function opName(op: number): string {
  return OP_NAMES[op] ?? `op ${op}`;
}

const SHUTDOWN_NAMES = ["no-receive", "no-send"];
const MESSAGE_END_NAMES = ["EOM", "EOR"];

/** The names of bits 0 and 1, and whatever else is set. */
function flagNames(flags: number, [first, second]: readonly string[]): string {
  const names = [];
  if ((flags & 1) !== 0) names.push(first);
  if ((flags & 2) !== 0) names.push(second);
  const unknown = (flags & ~3) >>> 0;
  if (unknown !== 0) names.push(`0x${unknown.toString(16)}`);
  return names.join("+") || "none";
}

function describeFlags({ type, op, flags }: PacketHeader): string {
  if (op === Op.SHUTDOWN) return ` ${flagNames(flags, SHUTDOWN_NAMES)}`;
  if (flags === 0) return "";
  if (op === Op.RW && type === SocketType.SEQPACKET) return ` ${flagNames(flags, MESSAGE_END_NAMES)}`;
  return ` flags=0x${flags.toString(16)}`;
}

/** One line, flags decoded: "3:1024 -> 2:5000 STREAM RW len=10 buf_alloc=262144 fwd_cnt=0". */
export function describePacket(header: PacketHeader): string {
  const cid = (low: number, high: number) =>
    high === 0 ? `${low}` : `0x${((BigInt(high) << 32n) | BigInt(low)).toString(16)}`;
  const type =
    header.type === SocketType.STREAM
      ? "STREAM"
      : header.type === SocketType.SEQPACKET
        ? "SEQPACKET"
        : `type ${header.type}`;
  return (
    `${cid(header.srcCid, header.srcCidHigh)}:${header.srcPort} -> ${cid(header.dstCid, header.dstCidHigh)}:${header.dstPort} ` +
    `${type} ${opName(header.op)}${describeFlags(header)} len=${header.len} buf_alloc=${header.bufAlloc} fwd_cnt=${header.fwdCnt}`
  );
}
