/**
 * The line with which host programs ask for a port: against a naive reading of it, cut anywhere, on stream and on
 * seqpacket sockets. What follows the line has to be there still, every byte of it.
 */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { SOCK_SEQPACKET, SOCK_STREAM, socketPair } from "../../../src/linux/unix-socket.js";
import { type HandshakeLine, LONGEST_LINE_BYTES } from "../../../src/vsock/handshake.js";
import { readLine, readLineMessage } from "../../../src/vsock/handshake-reader.js";
import { HostEnd, openDescriptors } from "../../../src/vsock/switch-rig.js";
import { Input, type Target } from "../target.js";

type Naive = { readonly port: number; readonly lineBytes: number } | "incomplete" | "invalid";

const LINE = /^[ \t\v\f\r]*connect[ \t\v\f\r]+(\d{1,10})[ \t\v\f\r]*$/i;

/** The line at the start of what has come, if it ends within `mostBytes`. */
function naive(text: string, mostBytes = LONGEST_LINE_BYTES): Naive {
  const end = text.slice(0, mostBytes).indexOf("\n");
  if (end < 0) return text.length < mostBytes ? "incomplete" : "invalid";
  const port = Number(LINE.exec(text.slice(0, end))?.[1] ?? -1);
  return port >= 0 && port < 0xffff_ffff ? { port, lineBytes: end + 1 } : "invalid";
}

function assertSame(line: HandshakeLine, expected: Naive, what: string): void {
  if (expected === "incomplete" || expected === "invalid") assert.equal(line.kind, expected, what);
  else assert.deepEqual([line.kind, line.kind === "port" && line.port], ["port", expected.port], what);
}

/** Sent in pieces; the reader looks after each, and what it leaves is read at the end. */
function stream(input: Input, text: Buffer): void {
  const [ours, theirs] = socketPair(SOCK_STREAM);
  const client = new HostEnd(theirs);
  try {
    let sent = 0;
    let line: HandshakeLine = { kind: "incomplete" };
    while (sent < text.length && line.kind === "incomplete") {
      const piece = text.subarray(sent, sent + 1 + (input.u8() % LONGEST_LINE_BYTES));
      client.write(piece);
      sent += piece.length;
      line = readLine(ours);
      assertSame(line, naive(text.toString("latin1", 0, sent)), JSON.stringify(text.toString("latin1")));
    }
    if (line.kind === "port")
      assert.deepEqual(new HostEnd(ours).readAll(), text.subarray(line.lineBytes, sent));
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

/** One message; another behind it stays. */
function messages(text: Buffer): void {
  const [ours, theirs] = socketPair(SOCK_SEQPACKET);
  const client = new HostEnd(theirs);
  try {
    client.write(text);
    client.write("next");
    const line = readLineMessage(ours);
    const whole = text.toString("latin1");
    const ended = whole.endsWith("\n") ? whole : `${whole}\n`;
    // What may be so long is the message as it was sent: an end that was left out does not count.
    const expected = naive(ended, ended.length);
    const isOne = typeof expected === "object" && expected.lineBytes === ended.length;
    const fits = text.length <= LONGEST_LINE_BYTES;
    assertSame(line, isOne && fits ? expected : "invalid", JSON.stringify(whole));
    if (line.kind === "port") assert.equal(String(new HostEnd(ours).read()), "next");
  } finally {
    closeSync(ours);
    closeSync(theirs);
  }
}

function run(bytes: Uint8Array): void {
  const before = openDescriptors();
  const input = new Input(bytes);
  const isStream = (input.u8() & 1) === 0;
  const text = Buffer.from(input.take(input.u8()));
  if (isStream) stream(input, text);
  else messages(text);
  assert.equal(openDescriptors(), before);
}

function seed(kind: number, text: string, ...pieces: number[]): Uint8Array {
  return Uint8Array.of(kind, text.length, ...Buffer.from(text, "latin1"), ...pieces);
}

export const handshake: Target = {
  name: "handshake",
  about: "the CONNECT line of host programs, on both kinds of sockets",
  mostBytes: 160,
  seeds: [
    ...[
      "CONNECT 1234\n",
      "connect 4294967294\r\nGET /",
      "CONNECT  7 \nCONNECT 8\n",
      " x",
      "CONNECT 4294967295\n",
    ],
    ...["CONNECT 99999999999\n", `CONNECT${" ".repeat(60)}1\n`],
  ].flatMap((text) => [seed(0, text, 3, 1), seed(1, text)]),
  run,
};
