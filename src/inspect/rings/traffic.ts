/** What is seen of rings: packets, and the figures of each ring. Data only; text-view.ts and its like show it. */

import { VSOCK_QUEUE, viewOf } from "../../virtio/index.js";
import { PacketHeader } from "../../vsock/header.js";

/** A vsock packet that a ring carried. */
export interface RingPacket {
  /** When it was seen, CLOCK_REALTIME in nanoseconds: a little after it was put there. */
  readonly timeNs: bigint;
  readonly ring: number;
  /** Which way it went: from the guest's driver to the device, or to the guest. */
  readonly direction: "to-device" | "to-guest";
  /** The 44 bytes of struct virtio_vsock_hdr. */
  readonly header: Uint8Array;
  /** What of the payload was kept; the header says how much there was. */
  readonly payload: Uint8Array;
}

/** What a vsock device's ring carries goes one way. */
export function directionOf(ring: number): RingPacket["direction"] {
  return ring === VSOCK_QUEUE.tx ? "to-device" : "to-guest";
}

export function packetHeader({ header }: RingPacket): PacketHeader {
  const decoded = new PacketHeader();
  decoded.read(viewOf(header), 0);
  return decoded;
}

/** Of one ring, all its starts together. */
export interface RingTraffic {
  /** Buffers that the driver made available, and that the device returned as used. */
  available: number;
  used: number;
  /** Bytes of the buffers that the device was given to read, as far as they were seen. */
  readableBytes: number;
  /** Bytes that the device says it has written. */
  writtenBytes: number;
  packets: number;
  /** Used buffers whose content was gone, or could not be reached, when it was looked for. */
  unseen: number;
  /** Signals of the two eventfds that were noticed: at least so many. Several may be one to whoever waits for them. */
  kicks: number;
  calls: number;
}

export function noTraffic(): RingTraffic {
  return {
    available: 0,
    used: 0,
    readableBytes: 0,
    writtenBytes: 0,
    packets: 0,
    unseen: 0,
    kicks: 0,
    calls: 0,
  };
}

/**
 * What a ring holds against its rules:
 *
 * - `used-unknown`: the device returned a buffer that it did not have.
 * - `indices`: the used index is ahead of the available one.
 * - `outside-memory`: a descriptor leads out of the memory table.
 */
export const RING_FAULT_KINDS = ["used-unknown", "indices", "outside-memory"] as const;
export type RingFaultKind = (typeof RING_FAULT_KINDS)[number];

/** Reported once for each ring and kind. */
export interface RingFault {
  readonly timeNs: bigint;
  readonly ring: number;
  readonly kind: RingFaultKind;
  /** What stood there. */
  readonly text: string;
}

/** By the index of the ring. */
export type SessionTraffic = ReadonlyMap<number, RingTraffic>;
