import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { EventLoop } from "../linux/event-loop.js";
import { createEventfd } from "../linux/eventfd.js";
import { createMemfd } from "../linux/mapping.js";
import { receiveMessage, sendMessage } from "../linux/message-socket.js";
import { socketPair } from "../linux/unix-socket.js";
import { BackendChannel } from "./backend-channel.js";
import { openDescriptors } from "./session-rig.js";

interface Bench {
  readonly loop: EventLoop;
  readonly channel: BackendChannel;
  readonly peer: number;
  readonly closed: string[];
  writable: number;
}

function withChannel(body: (bench: Bench) => void): void {
  const before = openDescriptors();
  const loop = new EventLoop();
  const [ours, peer] = socketPair();
  const closed: string[] = [];
  const on = { closed: (reason: string) => void closed.push(reason), writable: () => void bench.writable++ };
  const bench: Bench = { loop, channel: new BackendChannel(ours, loop, on), peer, closed, writable: 0 };
  try {
    body(bench);
  } finally {
    bench.channel.close();
    closeSync(peer);
    loop.close();
  }
  assert.equal(openDescriptors(), before);
}

test("a full channel keeps the rest of a message, says when there is room, and tears nothing", () => {
  withChannel((bench) => {
    const { loop, channel, peer } = bench;
    const message = Uint8Array.from({ length: 50_000 }, (_, at) => at % 251);
    let sent = 0;
    for (; channel.isReady; sent++) channel.send(message);
    loop.turn(0);
    assert.equal(bench.writable, 0);
    let received = 0;
    while (received < sent * message.length) {
      const { result, bytes } = receiveMessage(peer);
      for (let at = 0; at < result; at++) {
        assert.equal(bytes[at], message[(received + at) % message.length]);
      }
      if (result > 0) received += result;
      loop.turn(0);
    }
    assert.equal(bench.writable, 1);
    assert.ok(channel.isReady);
  });
});

test("what waits can be taken back, but for the rest of a message that was begun", () => {
  withChannel((bench) => {
    const { loop, channel, peer } = bench;
    const [messageBytes, batch] = [7_000, 8];
    const messages = Uint8Array.from({ length: messageBytes * batch }, (_, at) => (at % messageBytes) % 251);
    let sent = 0;
    for (; channel.isReady; sent += batch) channel.send(messages, messageBytes);
    const wasBegun = !isTakenBackWhole(channel);
    let received = 0;
    for (let idle = 0; idle < 4; idle++) {
      for (let read = receiveMessage(peer); read.result > 0; read = receiveMessage(peer)) {
        for (let at = 0; at < read.result; at++) {
          assert.equal(read.bytes[at], ((received + at) % messageBytes) % 251);
        }
        received += read.result;
        idle = 0;
      }
      loop.turn(0);
    }
    assert.equal(received % messageBytes, 0, "no message is torn");
    assert.ok(received < sent * messageBytes);
    assert.ok(channel.isReady);
    assert.equal(bench.writable, wasBegun ? 1 : 0);
  });
});

function isTakenBackWhole(channel: BackendChannel): boolean {
  channel.dropUnsent();
  return channel.isReady;
}

test("answers that nobody asked for are read and dropped, with the descriptors that came along", () => {
  withChannel(({ loop, channel, peer, closed }) => {
    const eventfd = createEventfd();
    for (let answer = 0; answer < 100; answer++) sendMessage(peer, new Uint8Array(20), [eventfd]);
    for (let turns = 0; turns < 20; turns++) loop.turn(0);
    assert.ok(channel.isReady);
    assert.deepEqual(closed, []);
    closeSync(eventfd);
  });
});

test("a channel that the front-end closes is reported once, also when it is written to", () => {
  withChannel((bench) => {
    const [ours, theirs] = socketPair();
    const closed: string[] = [];
    const channel = new BackendChannel(ours, bench.loop, {
      closed: (reason) => void closed.push(reason),
      writable: () => {},
    });
    closeSync(theirs);
    channel.send(new Uint8Array(44));
    bench.loop.turn(0);
    bench.loop.turn(0);
    assert.equal(closed.length, 1);
    assert.match(closed[0], /^the back-end channel cannot be written: EPIPE$/);
  });
});

test("a descriptor that cannot be waited for is not taken", () => {
  const loop = new EventLoop();
  const file = createMemfd("no socket", 4096);
  const on = { closed: () => {}, writable: () => {} };
  assert.throws(() => new BackendChannel(file, loop, on), { name: "SystemCallError", code: "EPERM" });
  closeSync(file);
  loop.close();
});
