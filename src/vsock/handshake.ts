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
  | { readonly kind: "port"; readonly port: number; readonly lineBytes: number }
  | { readonly kind: "invalid"; readonly reason: string };

/** Reads the line at the start of `text` (what has arrived so far, latin1). */
export function parseConnectLine(text: string): HandshakeLine {
  const end = text.indexOf("\n");
  if (end < 0) {
    if (text.length < LONGEST_LINE_BYTES) return { kind: "incomplete" };
    return { kind: "invalid", reason: `no end of line within ${LONGEST_LINE_BYTES} bytes` };
  }
  const line = text.slice(0, end);
  const match = /^\s*connect\s+(\d{1,10})\s*$/i.exec(line);
  if (match === null)
    return { kind: "invalid", reason: `expected "CONNECT <port>", got ${JSON.stringify(line)}` };
  const port = Number(match[1]);
  // virtio-vsock ports are 32 bits; the highest is VMADDR_PORT_ANY (include/uapi/linux/vm_sockets.h).
  if (port >= 0xffff_ffff) return { kind: "invalid", reason: `${match[1]} is not a port (0 to 4294967294)` };
  return { kind: "port", port, lineBytes: end + 1 };
}
