/**
 * How packets are laid over descriptors. The specification leaves it to the driver (virtio 1.4, 2.7.4), and Linux has
 * changed it: a device has to take any of these.
 */
import { HEADER_BYTES } from "../vsock/header.js";

export interface Framing {
  /** For test names and logs. */
  readonly name: string;
  /** The sizes of the buffers of one receive chain, in order; together more than a header. */
  readonly receive: readonly number[];
  /** The sizes of the buffers into which a header and so many bytes of payload are cut. */
  transmit(payloadBytes: number): readonly number[];
}

const CONTROL: readonly number[] = [HEADER_BYTES];

/** A header of its own, then the payload. */
function headerThenData(payloadBytes: number): readonly number[] {
  return payloadBytes === 0 ? CONTROL : [HEADER_BYTES, payloadBytes];
}

/** Linux since 6.3: one receive buffer of SKB_WITH_OVERHEAD(4096), which is 3776 on x86-64. */
export const LINUX: Framing = { name: "linux-6.3", receive: [3776], transmit: headerThenData };

/** Linux before 6.3: a header and a page apart. */
export const LINUX_BEFORE_6_3: Framing = {
  name: "linux-5.10",
  receive: [HEADER_BYTES, 4096],
  transmit: headerThenData,
};

/** Everything in one descriptor, both ways. */
export const JOINED: Framing = {
  name: "joined",
  receive: [4096],
  transmit: (payloadBytes) => [HEADER_BYTES + payloadBytes],
};

/** Headers torn apart, payload in uneven pieces, one of which begins within the header. */
export const TORN: Framing = {
  name: "torn",
  receive: [1, 10, 7, 29, 100, 1, 2000, 33],
  transmit: (payloadBytes) =>
    cut(HEADER_BYTES + payloadBytes, [3, 13, 1, 26, 5, 700, 1, 4096, 9000, 20_000, 40_000]),
};

/** Receive buffers of one size, otherwise as Linux. */
export function receiveBuffersOf(bytes: number): Framing {
  return { ...LINUX, name: `receive-${bytes}`, receive: [bytes] };
}

function cut(total: number, sizes: readonly number[]): number[] {
  const pieces: number[] = [];
  let left = total;
  for (const size of sizes) {
    if (left === 0) break;
    pieces.push(Math.min(size, left));
    left -= pieces[pieces.length - 1];
  }
  if (left > 0) pieces[pieces.length - 1] += left;
  return pieces;
}
