/** Where a socket that somebody else made is bound, and of which type it is. */
import { checked } from "./errors.js";
import { libcCalls } from "./libc.js";
import { setupScratch } from "./scratch.js";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const ADDRESS_BYTES = 128;
const LENGTH_AT = 256;

export type BoundAddress =
  /** Empty if it has no name in the file system. */
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly address: string; readonly port: number }
  | { readonly kind: "other"; readonly family: number };

/** Throws a `SystemCallError` if `fd` is no socket. The layouts are in `unix-socket.ts` and `tcp-socket.ts`. */
export function boundAddress(fd: number): BoundAddress {
  const { data, bytes, address } = setupScratch;
  data.setUint32(LENGTH_AT, ADDRESS_BYTES, true);
  checked(libcCalls.getsockname(fd, address, address + LENGTH_AT), "getsockname", `fd ${fd}`);
  const length = data.getUint32(LENGTH_AT, true);
  const family = data.getUint16(0, true);
  if (family === AF_UNIX) {
    const name = Buffer.from(bytes.subarray(2, length));
    const end = name.indexOf(0);
    return { kind: "unix", path: name.subarray(0, end < 0 ? name.length : end).toString() };
  }
  const port = data.getUint16(2);
  if (family === AF_INET) return { kind: "tcp", address: bytes.subarray(4, 8).join("."), port };
  if (family !== AF_INET6) return { kind: "other", family };
  const groups = Array.from({ length: 8 }, (_, index) => data.getUint16(8 + 2 * index).toString(16));
  // The URL parser writes the one canonical form.
  return { kind: "tcp", address: new URL(`tcp://[${groups.join(":")}]`).hostname.slice(1, -1), port };
}
