import assert from "node:assert/strict";
import { closeSync, fstatSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { errno } from "../../linux/errors.js";
import { EventLoop } from "../../linux/event-loop.js";
import { createEventfd } from "../../linux/eventfd.js";
import { createMemfd } from "../../linux/mapping.js";
import { type Received, receiveMessage, sendMessage } from "../../linux/message-socket.js";
import {
  acceptUnix,
  connectUnix,
  createSocket,
  listenUnix,
  SHUT_WR,
  shutdownSocket,
  socketPair,
} from "../../linux/unix-socket.js";
import { encodeAck, encodeFrame, encodeRequest, IOTLB_TYPE } from "../../vhost/wire/index.js";
import type { FrameObserver, Remark, SessionEnd, SessionFrame } from "../frame.js";
import { Relay, type RelayOptions } from "./relay.js";
import type { MakeRewriter } from "./rewriter.js";

/** A relay between a front-end and a back-end that are sockets of the test, turned by hand. */
class RelayRig implements FrameObserver {
  readonly loop = new EventLoop();
  readonly frames: { readonly session: number; readonly frame: SessionFrame }[] = [];
  readonly remarks: Remark[] = [];
  readonly ends: SessionEnd[] = [];
  readonly folder = mkdtempSync(join(tmpdir(), "b33-relay-"));
  readonly #listener = listenUnix(join(this.folder, "a"));
  readonly #open = new Set<number>();
  backListener = -1;
  readonly relay: Relay;

  constructor(
    options: Partial<RelayOptions> & { readonly makeRewriter?: MakeRewriter; readonly later?: boolean } = {},
  ) {
    if (options.later !== true) this.listenBehind();
    this.relay = new Relay({
      listener: this.#listener,
      connectPath: join(this.folder, "b"),
      connectTimeoutMs: 300,
      comes: "front-end",
      once: false,
      loop: this.loop,
      observer: this,
      ...options,
    });
  }

  listenBehind(): void {
    this.backListener = listenUnix(join(this.folder, "b"));
  }

  begun(): void {}
  frame(session: number, frame: SessionFrame): void {
    this.frames.push({ session, frame });
  }
  remark(_session: number, remark: Remark): void {
    this.remarks.push(remark);
  }
  ended(_session: number, end: SessionEnd): void {
    this.ends.push(end);
  }

  keep(fd: number): number {
    this.#open.add(fd);
    return fd;
  }

  hangUp(fd: number): void {
    this.#open.delete(fd);
    closeSync(fd);
    this.turn();
  }

  front(): number {
    const fd = this.keep(createSocket());
    assert.equal(connectUnix(fd, join(this.folder, "a")), 0);
    return fd;
  }

  /** Both ends of a session that goes through. */
  joined(): [front: number, back: number] {
    const front = this.front();
    this.turn();
    return [front, this.keep(acceptUnix(this.backListener))];
  }

  turn(): void {
    while (this.loop.turn(0));
  }

  /** Turns until something is there, the end of stream included. */
  take(fd: number, most?: number): Received {
    this.turn();
    const received = receiveMessage(fd, most);
    for (const descriptor of received.descriptors) this.#open.add(descriptor);
    return { ...received, bytes: received.bytes.slice() };
  }

  close(): void {
    this.relay.close("the test is over");
    for (const fd of [...this.#open, this.#listener]) closeSync(fd);
    if (this.backListener >= 0) closeSync(this.backListener);
    this.loop.close();
    rmSync(this.folder, { recursive: true });
  }
}

function using(rig: RelayRig, run: (rig: RelayRig) => void): void {
  try {
    run(rig);
  } finally {
    rig.close();
  }
}

const ino = (fd: number): number => fstatSync(fd).ino;
const GET_FEATURES = encodeRequest("frontend", "GET_FEATURES");
const CHANNEL = encodeRequest("frontend", "SET_BACKEND_REQ_FD");
const iotlb = {
  kind: "iotlb",
  iova: 0x1000n,
  size: 0n,
  userAddress: 0n,
  perm: 1,
  type: IOTLB_TYPE.MISS,
} as const;

describe("a relay", () => {
  it("passes messages on unchanged in both directions, and reports each", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      sendMessage(front, GET_FEATURES);
      assert.deepEqual(rig.take(back).bytes, GET_FEATURES);
      const reply = encodeFrame(1, 4, { kind: "u64", value: 0x1_4000_0000n });
      sendMessage(back, reply);
      assert.deepEqual(rig.take(front).bytes, reply);
      assert.deepEqual(
        rig.frames.map(({ session, frame: { timeNs: _, ...frame } }) => ({ session, ...frame })),
        [
          { session: 1, channel: "main", direction: "to-backend", bytes: GET_FEATURES, descriptorCount: 0 },
          { session: 1, channel: "main", direction: "to-frontend", bytes: reply, descriptorCount: 0 },
        ],
      );
    }));

  it("accepts one only, if that is asked for, and leaves whoever knocks later where he is", () =>
    using(new RelayRig({ once: true }), (rig) => {
      const [front, back] = rig.joined();
      const late = rig.front();
      sendMessage(late, GET_FEATURES);
      rig.hangUp(front);
      rig.take(back);
      assert.equal(rig.ends.length, 1);
      assert.equal(acceptUnix(rig.backListener), -errno.EAGAIN);
      assert.deepEqual(rig.frames, []);
    }));

  it("passes the very files on, with the first byte of their message", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const files = [createMemfd("one", 4096), createMemfd("two", 4096), createEventfd()].map((fd) =>
        rig.keep(fd),
      );
      const region = { guestAddress: 0n, size: 4096n, userAddress: 0n, mmapOffset: 0n };
      const table = encodeRequest("frontend", "SET_MEM_TABLE", {
        kind: "memTable",
        regions: [region, region, region],
      });
      sendMessage(front, GET_FEATURES);
      sendMessage(front, table, files);
      sendMessage(front, GET_FEATURES);
      rig.turn();
      assert.deepEqual(rig.take(back, GET_FEATURES.length).descriptors, []);
      const first = rig.take(back, 1);
      assert.deepEqual(first.descriptors.map(ino), files.map(ino));
      const rest = rig.take(back, table.length - 1);
      assert.deepEqual(Buffer.concat([first.bytes, rest.bytes]), Buffer.from(table));
      assert.deepEqual(rig.take(back), {
        result: 12,
        bytes: GET_FEATURES,
        descriptors: [],
        descriptorsLost: false,
      });
      assert.deepEqual(rig.frames[1].frame.descriptorKinds, ["memory", "memory", "eventfd"]);
    }));

  it("leaves descriptors where they are if a peer sends them with the payload", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const file = rig.keep(createMemfd("late", 4096));
      const message = encodeRequest("frontend", "SET_VRING_NUM", { kind: "vringState", index: 0, num: 8 });
      sendMessage(front, message.subarray(0, 12));
      rig.turn();
      sendMessage(front, message.subarray(12), [file]);
      rig.turn();
      const head = rig.take(back, 12);
      assert.deepEqual(head.descriptors, []);
      assert.deepEqual(rig.take(back).descriptors.map(ino), [ino(file)]);
    }));

  it("closes its own copies of what it passed on", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const [ours, theirs] = socketPair();
      rig.keep(ours);
      sendMessage(front, encodeRequest("frontend", "GPU_SET_SOCKET"), [theirs]);
      closeSync(theirs);
      const [received] = rig.take(back).descriptors;
      assert.equal(receiveMessage(ours).result, -errno.EAGAIN);
      rig.hangUp(received);
      assert.equal(receiveMessage(ours).result, 0, "nobody holds the other end any more");
    }));

  it("follows the back-end channel by a socket of its own, both ways, and its end", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const [ours, theirs] = socketPair();
      rig.keep(ours);
      sendMessage(front, CHANNEL, [theirs]);
      closeSync(theirs);
      const { bytes, descriptors } = rig.take(back);
      assert.deepEqual(bytes, CHANNEL);
      const [channel] = descriptors;
      const miss = encodeRequest("backend", "IOTLB_MSG", iotlb);
      sendMessage(channel, miss);
      assert.deepEqual(rig.take(ours).bytes, miss);
      const answer = encodeAck({ request: 1, flags: 0, size: 0 }, 0n);
      sendMessage(ours, answer);
      assert.deepEqual(rig.take(channel).bytes, answer);
      assert.deepEqual(
        rig.frames.slice(1).map(({ frame }) => `${frame.channel} ${frame.direction}`),
        ["backend to-frontend", "backend to-backend"],
      );
      rig.hangUp(ours);
      assert.equal(rig.take(channel).result, 0);
      assert.match(rig.remarks[0].text, /back-end channel: the front-end closed/);
      assert.equal(rig.ends.length, 0);
    }));

  it("closes one half if an end closes one half, and lets the other go on", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      sendMessage(front, GET_FEATURES);
      shutdownSocket(front, SHUT_WR);
      assert.deepEqual(rig.take(back).bytes, GET_FEATURES);
      assert.equal(rig.take(back).result, 0);
      sendMessage(back, GET_FEATURES);
      assert.deepEqual(rig.take(front).bytes, GET_FEATURES);
      assert.equal(rig.ends.length, 0);
      shutdownSocket(back, SHUT_WR);
      assert.equal(rig.take(front).result, 0);
      assert.equal(rig.ends.length, 1);
      assert.equal(rig.ends[0].by, "front-end");
    }));

  for (const side of ["front-end", "back-end"] as const) {
    it(`ends the session when the ${side} is gone, after what it said last`, () =>
      using(new RelayRig(), (rig) => {
        const [front, back] = rig.joined();
        const [gone, stays] = side === "front-end" ? [front, back] : [back, front];
        sendMessage(gone, GET_FEATURES);
        rig.hangUp(gone);
        assert.deepEqual(rig.take(stays).bytes, GET_FEATURES);
        assert.equal(rig.take(stays).result, 0);
        assert.deepEqual(
          rig.ends.map(({ by, reason }) => ({ by, reason })),
          [{ by: side, reason: `the ${side} closed the connection` }],
        );
      }));
  }

  it("holds a sender up while the receiver does not read, and loses nothing", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const message = encodeFrame(77, 0, { kind: "opaque", bytes: new Uint8Array(4000).fill(7) });
      let sent = 0;
      let last = message.length;
      for (; last === message.length; sent += last) {
        last = Math.max(0, sendMessage(front, message));
        rig.turn();
      }
      assert.ok(sent > 4 * message.length);
      let received = 0;
      for (let got = rig.take(back); got.result > 0; got = rig.take(back)) received += got.result;
      assert.equal(received, sent);
    }));

  it("passes on what is no vhost-user at all, and says from where on it sees nothing", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const garbage = Buffer.from("GET / HTTP/1.1\r\nHost: nowhere\r\n\r\n");
      sendMessage(front, garbage);
      const received: Buffer[] = [];
      for (let got = rig.take(back); got.result > 0; got = rig.take(back))
        received.push(Buffer.from(got.bytes));
      assert.deepEqual(Buffer.concat(received), garbage);
      assert.match(rig.remarks[0].text, /version .* passed on unseen/);
      assert.equal(rig.remarks[0].isGap, true);
    }));

  it("passes on the beginning of a message that never becomes whole", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      sendMessage(front, GET_FEATURES.subarray(0, 7));
      rig.hangUp(front);
      assert.deepEqual(rig.take(back).bytes, GET_FEATURES.subarray(0, 7));
      assert.match(rig.remarks[0].text, /closed within a message/);
    }));

  it("takes one front-end after another, and several at once", () =>
    using(new RelayRig(), (rig) => {
      const [front] = rig.joined();
      const [second, secondBack] = rig.joined();
      rig.hangUp(front);
      sendMessage(second, GET_FEATURES);
      assert.deepEqual(rig.take(secondBack).bytes, GET_FEATURES);
      const [third, thirdBack] = rig.joined();
      sendMessage(third, GET_FEATURES);
      assert.deepEqual(rig.take(thirdBack).bytes, GET_FEATURES);
      assert.deepEqual(
        rig.frames.map(({ session }) => session),
        [2, 3],
      );
    }));

  it("waits for a back-end that is not there yet", () =>
    using(new RelayRig({ later: true }), (rig) => {
      const front = rig.front();
      sendMessage(front, GET_FEATURES);
      rig.turn();
      assert.match(rig.remarks[0].text, /cannot connect to .*ENOENT; trying again/);
      rig.listenBehind();
      let back = -1;
      while (back < 0) {
        rig.loop.turn(10);
        back = acceptUnix(rig.backListener);
      }
      assert.deepEqual(rig.take(rig.keep(back)).bytes, GET_FEATURES);
    }));

  it("gives a front-end up whose back-end does not come in time", () =>
    using(new RelayRig({ later: true, connectTimeoutMs: 0 }), (rig) => {
      const front = rig.front();
      assert.equal(rig.take(front).result, 0);
      assert.equal(rig.ends[0].by, "back-end");
      assert.match(rig.ends[0].reason, /cannot connect to .*ENOENT/);
    }));

  it("lets a rewriter replace, drop and inject: the observer sees what was sent, by whomever", () => {
    const replaced = encodeRequest("frontend", "SET_OWNER");
    const makeRewriter: MakeRewriter = (port) => ({
      rewrite: ({ bytes }) => {
        if (bytes[0] === 1) return { kind: "replace", bytes: replaced };
        if (bytes[0] === 3) {
          port.inject("main", "to-frontend", CHANNEL);
          return { kind: "drop" };
        }
        return { kind: "pass" };
      },
      close() {},
    });
    using(new RelayRig({ makeRewriter }), (rig) => {
      const [front, back] = rig.joined();
      sendMessage(front, GET_FEATURES);
      assert.deepEqual(rig.take(back).bytes, replaced);
      sendMessage(front, replaced);
      assert.equal(rig.take(back).result, -errno.EAGAIN);
      assert.deepEqual(rig.take(front).bytes, CHANNEL);
      assert.deepEqual(
        rig.frames.map(({ frame }) => frame.bytes[0]),
        [1, 3, CHANNEL[0]],
      );
    });
  });

  it("takes nothing in while whoever observes has fallen behind, and everything afterwards", () =>
    using(new RelayRig(), (rig) => {
      const [front, back] = rig.joined();
      const [ours, theirs] = socketPair();
      rig.keep(ours);
      sendMessage(front, CHANNEL, [theirs]);
      closeSync(theirs);
      const [channel] = rig.take(back).descriptors;
      rig.relay.pause();
      sendMessage(front, GET_FEATURES);
      sendMessage(channel, encodeRequest("backend", "IOTLB_MSG", iotlb));
      assert.equal(rig.take(back).result, -errno.EAGAIN);
      assert.equal(rig.take(ours).result, -errno.EAGAIN);
      assert.equal(rig.frames.length, 1);
      rig.relay.resume();
      assert.deepEqual(rig.take(back).bytes, GET_FEATURES);
      assert.ok(rig.take(ours).result > 0);
      assert.equal(rig.frames.length, 3);
    }));

  it("ends a session in which a rewriter injects towards an end that is gone", () => {
    const makeRewriter: MakeRewriter = (port) => ({
      rewrite: () => {
        port.inject("main", "to-frontend", CHANNEL);
        return { kind: "pass" };
      },
      close() {},
    });
    using(new RelayRig({ makeRewriter }), (rig) => {
      const [front, back] = rig.joined();
      const file = rig.keep(createEventfd());
      sendMessage(back, encodeRequest("frontend", "GPU_SET_SOCKET"), [file]);
      rig.hangUp(front);
      assert.equal(rig.ends.length, 1);
      assert.equal(rig.ends[0].by, "front-end");
    });
  });
});
