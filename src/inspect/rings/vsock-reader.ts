/**
 * Reads vsock packets out of the buffers of a vsock device's two packet rings. What may have been overwritten is taken
 * for a packet only if all of it fits together; what certainly was not is one, whatever it says.
 */
import { VSOCK_QUEUE, viewOf } from "../../virtio/index.js";
import { DESC_BYTES } from "../../virtqueue/layout.js";
import { HEADER_BYTES, Op, PacketHeader, SocketType } from "../../vsock/header.js";
import type { ContentReader, LeftAddress } from "./buffer-book.js";
import type { GuestReader } from "./guest-reader.js";
import { ObservedChain, type Side } from "./observed-chain.js";
import { directionOf, type RingPacket } from "./traffic.js";

/** Entries of an indirect table whose length nobody knows: Linux's drivers use 2 to 18 for a packet of 64 KiB. */
const MOST_LEFT_ENTRIES = 18;

export class VsockReader implements ContentReader {
  readonly side: Side;

  /**
   * @param mostPayloadBytes how much of a packet's payload is read
   * @param show is given each packet when its turn comes
   */
  constructor(
    readonly ring: number,
    readonly mostPayloadBytes: number,
    /** As far as the device's configuration was seen. */
    readonly guestCid: () => bigint | undefined,
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
    const packet = headerOf(header);
    const payload = new Uint8Array(Math.min(packet.len, bytes - HEADER_BYTES, this.mostPayloadBytes));
    if (!chain.read(guest, this.side, HEADER_BYTES, payload)) return "unmapped";
    // Drivers give a packet as many bytes as it has, and devices say how many they wrote.
    const isExact = this.side === "readable" || writtenBytes !== undefined;
    if (!isCertain() && !(this.#isPlausible(packet) && fits(packet, bytes, isExact))) return "gone";
    return this.#shown(header, payload);
  }

  /** A packet that the guest sent: header and payload in one buffer, or in those of an indirect table. */
  recover({ low, high }: LeftAddress, guest: GuestReader): (() => void) | undefined {
    if (this.side !== "readable") return undefined;
    const table = new Uint8Array(MOST_LEFT_ENTRIES * DESC_BYTES);
    if (guest.read(low, high, table)) {
      for (let entries = 1; entries <= MOST_LEFT_ENTRIES; entries++) {
        const chain = ObservedChain.ofTable(table, entries);
        const content = this.read(chain, guest, undefined, () => false);
        if (typeof content === "function") return content;
      }
    }
    const header = new Uint8Array(HEADER_BYTES);
    if (!guest.read(low, high, header)) return undefined;
    const packet = headerOf(header);
    const whole = new Uint8Array(HEADER_BYTES + Math.min(packet.len, this.mostPayloadBytes));
    if (!this.#isPlausible(packet) || !guest.read(low, high, whole)) return undefined;
    return this.#shown(header, whole.subarray(HEADER_BYTES));
  }

  /**
   * Whether bytes that may be anything are a header: the numbers in it exist, and it is the guest that sends or gets it. A
   * page that was given back may hold a packet of the other direction by now.
   */
  #isPlausible({ op, type, srcCid, srcCidHigh, dstCid, dstCidHigh }: PacketHeader): boolean {
    if (op < Op.REQUEST || op > Op.CREDIT_REQUEST || (srcCidHigh | dstCidHigh) !== 0) return false;
    if (type !== SocketType.STREAM && type !== SocketType.SEQPACKET) return false;
    const guestCid = this.guestCid();
    return guestCid === undefined || guestCid === BigInt(this.side === "readable" ? srcCid : dstCid);
  }

  #shown(header: Uint8Array, payload: Uint8Array): () => void {
    const { ring, show } = this;
    const packet = { timeNs: this.nowNs(), ring, direction: directionOf(ring), header, payload };
    return () => show(packet);
  }
}

function headerOf(bytes: Uint8Array): PacketHeader {
  const header = new PacketHeader();
  header.read(viewOf(bytes), 0);
  return header;
}

/** Whether it is that of a packet of so many bytes. */
function fits({ len }: PacketHeader, bytes: number, isExact: boolean): boolean {
  return isExact ? len === bytes - HEADER_BYTES : len <= bytes - HEADER_BYTES;
}

/** Which rings of a vsock device carry packets. */
export function carriesPackets(ring: number): boolean {
  return ring === VSOCK_QUEUE.rx || ring === VSOCK_QUEUE.tx;
}
