import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { createMemfd, mapShared, view } from "../linux/mapping.js";
import { F, mask } from "../virtio/index.js";
import { InflightRing, inflightBytes } from "../virtqueue/inflight-ring.js";
import { QUEUE_SIZE, type Rig, VERSION_1_AND_30, withRig } from "./session-rig.js";

const QUEUES = 2;

/** What queue 1 is known to have in flight, as the next back-end would find it. */
function inFlight(fd: number, bytes: bigint, usedIdx: number): number[] {
  const buffer = view(mapShared(fd, 0, Number(bytes)), Number(bytes));
  const region = new Uint8Array(buffer, inflightBytes(QUEUE_SIZE), inflightBytes(QUEUE_SIZE)).slice();
  return new InflightRing(region.buffer, 0, QUEUE_SIZE).recover(usedIdx);
}

function withFile(use: (rig: Rig, file: { fd: number; size: bigint; offset: bigint }) => void): void {
  withRig({}, (rig) => {
    rig.connect();
    const file = rig.fe.getInflightFd(QUEUES, QUEUE_SIZE);
    assert.ok(file !== undefined);
    try {
      use(rig, file);
    } finally {
      closeSync(file.fd);
    }
  });
}

test("what a device takes is noted in the file until it is returned, and a ring goes on where the file says", () =>
  withFile((rig, file) => {
    rig.fe.setInflightFd(file, QUEUES, QUEUE_SIZE);
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "one");
    rig.send(1, "two");
    assert.deepEqual(inFlight(file.fd, file.size, 2), []);
    assert.deepEqual(rig.stop(), [0, 2]);
    // The front-end may have no idea of the position, as after a crash.
    rig.fe.setInflightFd(file, QUEUES, QUEUE_SIZE);
    rig.start(VERSION_1_AND_30, "user-rings", { base: 1, memory: false });
    rig.send(1, "three");
    assert.deepEqual(rig.received(1), ["one", "two", "three"]);
    assert.deepEqual(rig.log("ring-broken"), []);
  }));

test("the file may not change under a running ring", () =>
  withFile((rig, file) => {
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setInflightFd(file, QUEUES, QUEUE_SIZE), /SET_INFLIGHT_FD/);
    assert.match(rig.log("message-refused")[0].message, /a ring runs: stop it with GET_VRING_BASE first/);
  }));

test("files that cannot hold what they should are refused, and none is kept open", () =>
  withFile((rig, file) => {
    const short = createMemfd("short", 1024);
    const bad: [string, { fd: number; size: bigint; offset: bigint }][] = [
      ["too few", { ...file, size: 16n }],
      ["no inflight region", { ...file, offset: 17n }],
      ["no inflight region", { ...file, size: 2n ** 40n }],
      ["the file is 1024 bytes long", { fd: short, size: file.size, offset: 0n }],
      ["mmap", { fd: rig.kicks[0], size: 4096n, offset: 0n }],
    ];
    rig.fe.needReply = true;
    for (const [rule, each] of bad) {
      rig.logged.length = 0;
      assert.throws(() => rig.fe.setInflightFd(each, QUEUES, QUEUE_SIZE), /SET_INFLIGHT_FD/, rule);
      assert.ok(rig.log("message-refused")[0].message.includes(rule), rig.log("message-refused")[0].message);
    }
    closeSync(short);
  }));

test("more queues than there are, and sizes that are none, get an answer without a file", () =>
  withRig({}, (rig) => {
    rig.connect();
    for (const [queues, size] of [
      [4, QUEUE_SIZE],
      [2, 7],
      [2, 0],
      [2, 2048],
    ]) {
      rig.logged.length = 0;
      assert.throws(() => rig.fe.getInflightFd(queues, size));
      assert.match(rig.log("message-refused")[0].message, /at most 3 of 1024/);
    }
  }));

test("of packed rings nothing is noted, and the answer is a region of no bytes", () =>
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.setFeatures(VERSION_1_AND_30 | mask(F.RING_PACKED));
    assert.equal(rig.fe.getInflightFd(QUEUES, QUEUE_SIZE), undefined);
  }));
