/**
 * Reads vsock packets out of the buffers of a vsock device's two packet rings. What may have been overwritten is taken
 * for a packet only if all of it fits together; what certainly was not is one, whatever it says.
 */
import { VSOCK_QUEUE, viewOf } from "../../virtio/index.js";
import { HEADER_BYTES, Op, PacketHeader, SocketType } from "../../vsock/header.js";
import type { ContentReader } from "./buffer-book.js";
import type { GuestReader } from "./guest-reader.js";
import type { ObservedChain, Side } from "./observed-chain.js";
import { directionOf, type RingPacket } from "./traffic.js";

export class VsockReader implements ContentReader {
  readonly side: Side;
  readonly #header = new PacketHeader();

  /**
   * @param mostPayloadBytes how much of a packet's payload is read
   * @param show is given each packet when its turn comes
   */
  constructor(
    readonly ring: number,
    readonly mostPayloadBytes: number,
    readonly nowNs: () => bigint,
    readonly show: (packet: RingPacket) => void,
  ) {
    this.side = directionOf(ring) === "to-device" ? "readable" : "writable";
  }

  read(
    chain: ObservedChain,
    guest: GuestReader,
    writtenBytes: number | undefined,
    isCertain: () => boolean,
  ): (() => void) | "unmapped" | "gone" {
    const room = chain.byteLength(this.side);
    const bytes = Math.min(room, writtenBytes ?? room);
    if (bytes < HEADER_BYTES) return "gone";
    const header = new Uint8Array(HEADER_BYTES);
    if (!chain.read(guest, this.side, 0, header)) return "unmapped";
    this.#header.read(viewOf(header), 0);
    const { len } = this.#header;
    const payload = new Uint8Array(Math.min(len, bytes - HEADER_BYTES, this.mostPayloadBytes));
    if (!chain.read(guest, this.side, HEADER_BYTES, payload)) return "unmapped";
    if (!isCertain() && !fits(this.#header, bytes, writtenBytes)) return "gone";
    const { ring, show } = this;
    const packet = { timeNs: this.nowNs(), ring, direction: directionOf(ring), header, payload };
    return () => show(packet);
  }
}

/** Whether bytes that may be anything are a packet: its numbers exist, and its length is that of what holds it. */
function fits(header: PacketHeader, bytes: number, writtenBytes: number | undefined): boolean {
  const { op, type, len, srcCidHigh, dstCidHigh } = header;
  if (op < Op.REQUEST || op > Op.CREDIT_REQUEST || (srcCidHigh | dstCidHigh) !== 0) return false;
  if (type !== SocketType.STREAM && type !== SocketType.SEQPACKET) return false;
  const payload = bytes - HEADER_BYTES;
  return writtenBytes === undefined ? len <= payload : len === payload;
}

/** Which rings of a vsock device carry packets. */
export function carriesPackets(ring: number): boolean {
  return ring === VSOCK_QUEUE.rx || ring === VSOCK_QUEUE.tx;
}
