/**
 * The line with which a host program asks for a guest port, as Firecracker defined it: `CONNECT <port>\n`, answered
 * by `OK <assigned host port>\n`. Only the line is consumed: bytes that follow it are the connection's.
 *
 * The word is taken in any case (Kata sends it in lower case), a `\r` before the `\n` is tolerated.
 */

/** "CONNECT 4294967295\r\n" and a few spaces. A longer line is nobody's mistake about spaces. */
export const LONGEST_LINE_BYTES = 64;

export type HandshakeLine =
  | { readonly kind: "incomplete" }
  | {
      readonly kind: "port";
      readonly port: number;
      readonly lineBytes: number;
      readonly receivedBytes: number;
    }
  | { readonly kind: "invalid"; readonly reason: string };

const LINE_FEED = 0x0a;
const SPACE = 0x20;
const MOST_DIGITS = 10;
const WORD = Buffer.from("connect");
/** The bit that is set in a small letter and not in the capital one. */
const SMALL = 0x20;

/** Reads the line at the start of what has arrived so far: the first `length` of `bytes`. */
export function parseConnectLine(bytes: Uint8Array, length: number): HandshakeLine {
  let end = 0;
  while (end < length && bytes[end] !== LINE_FEED) end++;
  if (end === length) {
    if (length < LONGEST_LINE_BYTES) return { kind: "incomplete" };
    return { kind: "invalid", reason: `no end of line within ${LONGEST_LINE_BYTES} bytes` };
  }
  const port = portOf(bytes, end);
  if (port === undefined) {
    const line = Buffer.from(bytes.subarray(0, end)).toString("latin1");
    return { kind: "invalid", reason: `expected "CONNECT <port>", got ${JSON.stringify(line)}` };
  }
  // virtio-vsock ports are 32 bits; the highest is VMADDR_PORT_ANY (include/uapi/linux/vm_sockets.h).
  if (port >= 0xffff_ffff) return { kind: "invalid", reason: `${port} is not a port (0 to 4294967294)` };
  return { kind: "port", port, lineBytes: end + 1, receivedBytes: length };
}

/** The number of a line that has the right form, whatever it is. */
function portOf(bytes: Uint8Array, end: number): number | undefined {
  let at = afterSpace(bytes, 0, end);
  for (let index = 0; index < WORD.length; index++, at++)
    if (at >= end || (bytes[at] | SMALL) !== WORD[index]) return undefined;
  const digits = afterSpace(bytes, at, end);
  if (digits === at) return undefined;
  let port = 0;
  for (at = digits; at < end && bytes[at] >= 0x30 && bytes[at] <= 0x39; at++)
    port = 10 * port + bytes[at] - 0x30;
  const isNumber = at > digits && at - digits <= MOST_DIGITS;
  return isNumber && afterSpace(bytes, at, end) === end ? port : undefined;
}

function afterSpace(bytes: Uint8Array, from: number, end: number): number {
  let at = from;
  // Tab, vertical tab, form feed and carriage return have the codes 9 to 13; the line feed between them ends the line.
  while (at < end && (bytes[at] === SPACE || (bytes[at] >= 9 && bytes[at] <= 13))) at++;
  return at;
}
