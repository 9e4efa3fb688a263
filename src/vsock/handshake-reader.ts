/**
 * Takes the line of the handshake (`handshake.ts`) off a client's socket, of either type. Nothing behind it is taken.
 */
import { errno, errnoName } from "../linux/errors.js";
import { END_OF_MESSAGES, peekMessage } from "../linux/seqpacket.js";
import { peekBytes, peeked, skipBytes } from "../linux/unix-socket.js";
import { type HandshakeLine, LONGEST_LINE_BYTES, parseConnectLine } from "./handshake.js";

const INCOMPLETE: HandshakeLine = { kind: "incomplete" };

function unreadable(result: number): HandshakeLine {
  return { kind: "invalid", reason: `reading the CONNECT line failed with ${errnoName(-result)}` };
}

/** What a client has sent of its line on a stream. */
export function readLine(fd: number): HandshakeLine {
  const length = peekBytes(fd, LONGEST_LINE_BYTES);
  if (length === -errno.EAGAIN) return INCOMPLETE;
  if (length < 0) return unreadable(length);
  const line = parseConnectLine(peeked, length);
  if (line.kind === "port") skipBytes(fd, line.lineBytes);
  return line;
}

const LINE_FEED = 0x0a;

/** The line as a message of its own, the first one; its end of line may be left out. */
export function readLineMessage(fd: number): HandshakeLine {
  const length = peekMessage(fd);
  // After the end none will come; the caller sees that the client has left.
  if (length === -errno.EAGAIN || length === END_OF_MESSAGES) return INCOMPLETE;
  if (length < 0) return unreadable(length);
  if (length > LONGEST_LINE_BYTES) {
    const reason = `expected a message "CONNECT <port>", got one of ${length} bytes`;
    return { kind: "invalid", reason };
  }
  peekBytes(fd, LONGEST_LINE_BYTES);
  const isEnded = length > 0 && peeked[length - 1] === LINE_FEED;
  if (!isEnded) peeked[length] = LINE_FEED;
  const lineLength = isEnded ? length : length + 1;
  const line = parseConnectLine(peeked, lineLength);
  if (line.kind !== "port") return line;
  if (line.lineBytes < lineLength) {
    return {
      kind: "invalid",
      reason: "something follows the CONNECT line in its message; send it as another",
    };
  }
  skipBytes(fd, length);
  // Other messages may wait behind it: nothing is known of that.
  return { ...line, receivedBytes: Number.POSITIVE_INFINITY };
}
