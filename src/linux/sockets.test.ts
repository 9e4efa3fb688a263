import assert from "node:assert/strict";
import { closeSync, fstatSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { errno, SystemCallError } from "./errors.js";
import { createEventfd, drainEventfd, signalEventfd } from "./eventfd.js";
import { MOST_DESCRIPTORS, RECEIVE_BYTES, receiveMessage, sendMessage } from "./message-socket.js";
import { LONGEST_SOCKET_PATH_BYTES } from "./socket-path.js";
import {
  acceptUnix,
  connectUnix,
  createSocket,
  isListening,
  listenUnix,
  peekByte,
  peekText,
  SHUT_WR,
  SOCK_SEQPACKET,
  sendText,
  shutdownSocket,
  skipBytes,
  socketPair,
} from "./unix-socket.js";

let directory: string;
let opened: number;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bit33-"));
  opened = readdirSync("/proc/self/fd").length;
});

afterEach(() => {
  assert.equal(readdirSync("/proc/self/fd").length, opened, "descriptors are left open");
  rmSync(directory, { recursive: true });
});

function closeAll(...fds: number[]): void {
  for (const fd of fds) closeSync(fd);
}

describe("listening sockets", () => {
  it("have exactly the mode asked for, whatever the umask is, and leave the umask alone", () => {
    const before = process.umask();
    for (const mode of [0o600, 0o660, 0o777, 0o000]) {
      const path = join(directory, mode.toString(8));
      closeSync(listenUnix(path, { mode }));
      assert.equal(statSync(path).mode & 0o777, mode);
    }
    assert.equal(process.umask(), before);
  });

  it("tell a path in use, a missing directory and a path too long apart", () => {
    const path = join(directory, "s");
    const fd = listenUnix(path);
    assert.throws(
      () => listenUnix(path),
      (error) => error instanceof SystemCallError && error.code === "EADDRINUSE",
    );
    assert.throws(() => listenUnix(join(directory, "missing", "s")), { code: "ENOENT" });
    assert.throws(() => listenUnix("/".padEnd(LONGEST_SOCKET_PATH_BYTES + 1, "x")), RangeError);
    assert.throws(() => listenUnix(""), RangeError);
    assert.throws(() => listenUnix("a\0b"), RangeError);
    closeSync(fd);
  });

  it("take a path of the longest length, counted in bytes", () => {
    const name = "ä".repeat(Math.floor((LONGEST_SOCKET_PATH_BYTES - directory.length - 1) / 2));
    const path = `${directory}/${name}`.padEnd(LONGEST_SOCKET_PATH_BYTES - name.length, "x");
    assert.equal(Buffer.byteLength(path), LONGEST_SOCKET_PATH_BYTES);
    const listener = listenUnix(path);
    const client = createSocket();
    assert.equal(connectUnix(client, path), 0);
    closeAll(listener, client);
  });

  it("hand out connections, and say when none waits", () => {
    const path = join(directory, "s");
    const listener = listenUnix(path);
    assert.equal(acceptUnix(listener), -errno.EAGAIN);
    const client = createSocket();
    assert.equal(connectUnix(client, path), 0);
    const accepted = acceptUnix(listener);
    assert.equal(sendText(accepted, "hello"), 5);
    assert.equal(peekText(client, 100), "hello");
    assert.deepEqual(
      [isListening(listener), isListening(client), isListening(accepted)],
      [true, false, false],
    );
    closeAll(listener, client, accepted);
  });

  it("refuse a client of another kind, and one that comes when they are gone", () => {
    const path = join(directory, "s");
    const listener = listenUnix(path);
    const other = createSocket(SOCK_SEQPACKET);
    assert.equal(connectUnix(other, path), -errno.EPROTOTYPE);
    closeSync(listener);
    const late = createSocket();
    assert.equal(connectUnix(late, path), -errno.ECONNREFUSED);
    closeAll(other, late);
  });
});

describe("looking at a stream without taking from it", () => {
  it("shows what waits, takes exactly what is asked, and tells an end from nothing yet", () => {
    const [a, b] = socketPair();
    assert.equal(peekByte(b), -errno.EAGAIN);
    assert.equal(peekText(b, 10), -errno.EAGAIN);
    sendText(a, "line\nrest");
    assert.equal(peekByte(b), 1);
    assert.equal(peekText(b, 4), "line");
    assert.equal(skipBytes(b, 5), 5);
    assert.equal(peekText(b, 100), "rest");
    shutdownSocket(a, SHUT_WR);
    assert.equal(skipBytes(b, 4), 4);
    assert.equal(peekByte(b), 0);
    assert.equal(peekText(b, 10), "");
    closeAll(a, b);
  });

  it("reports a peer that left with bytes unread", () => {
    const [a, b] = socketPair();
    sendText(b, "unread");
    closeSync(a);
    assert.equal(peekByte(b), -errno.ECONNRESET);
    assert.equal(peekByte(b), 0);
    closeSync(b);
  });
});

describe("messages with descriptors", () => {
  it("carry working descriptors with their first byte, and the sender keeps its own", () => {
    const [a, b] = socketPair();
    const events = [createEventfd(), createEventfd()];
    assert.equal(sendMessage(a, Buffer.from("hello"), events), 5);
    const first = receiveMessage(b, 2);
    assert.equal(Buffer.from(first.bytes).toString(), "he");
    assert.equal(first.descriptors.length, 2);
    const second = receiveMessage(b);
    assert.equal(Buffer.from(second.bytes).toString(), "llo");
    assert.deepEqual(second.descriptors, []);
    signalEventfd(first.descriptors[1]);
    assert.equal(drainEventfd(events[1]), 8);
    assert.equal(drainEventfd(events[0]), -errno.EAGAIN);
    closeAll(a, b, ...events, ...first.descriptors);
  });

  it("are close-on-exec and as many as the kernel allows", () => {
    const [a, b] = socketPair();
    const fd = createEventfd();
    assert.equal(sendMessage(a, Buffer.from("x"), Array(MOST_DESCRIPTORS).fill(fd)), 1);
    const { descriptors, descriptorsLost } = receiveMessage(b);
    assert.equal(descriptors.length, MOST_DESCRIPTORS);
    assert.equal(descriptorsLost, false);
    assert.ok(descriptors.every((each) => fstatSync(each).ino === fstatSync(fd).ino));
    assert.throws(() => sendMessage(a, Buffer.from("x"), Array(MOST_DESCRIPTORS + 1).fill(fd)), RangeError);
    closeAll(a, b, fd, ...descriptors);
  });

  it("of two senders' calls are not mixed: descriptors belong to the first byte received", () => {
    const [a, b] = socketPair();
    const fd = createEventfd();
    sendMessage(a, Buffer.from("plain"));
    sendMessage(a, Buffer.from("with"), [fd]);
    const first = receiveMessage(b);
    const received = first.descriptors.length > 0 ? first : receiveMessage(b);
    assert.equal(received.descriptors.length, 1);
    closeAll(a, b, fd, ...received.descriptors);
  });

  it("report an end, an empty socket and a peer that is gone", () => {
    const [a, b] = socketPair();
    assert.equal(receiveMessage(b).result, -errno.EAGAIN);
    shutdownSocket(a, SHUT_WR);
    assert.equal(receiveMessage(b).result, 0);
    closeSync(a);
    assert.equal(sendMessage(b, Buffer.from("x")), -errno.EPIPE);
    closeSync(b);
  });

  it("are taken in part when the socket is full, and refused when they are too long", () => {
    const [a, b] = socketPair();
    const bytes = Buffer.alloc(RECEIVE_BYTES);
    let last: number;
    do last = sendMessage(a, bytes);
    while (last > 0);
    assert.equal(last, -errno.EAGAIN);
    assert.throws(() => sendMessage(a, Buffer.alloc(RECEIVE_BYTES + 1)), RangeError);
    closeAll(a, b);
  });
});
