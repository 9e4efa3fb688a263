import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EPOLLET, EPOLLIN } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import { createEventfd } from "../linux/eventfd.js";
import { socketPair } from "../linux/unix-socket.js";
import { Op, Shutdown } from "./header.js";
import { CONNECT_RETRY_MS, DEFAULT_LIMITS } from "./limits.js";
import {
  brief,
  GUEST_CID,
  GUEST_PORT,
  HOST_PORT,
  type HostEnd,
  openDescriptors,
  RecordingOpener,
  SwitchRig,
} from "./switch-rig.js";

let rig: SwitchRig;
let atStart: number;

beforeEach(() => {
  atStart = openDescriptors();
  rig = new SwitchRig();
});

afterEach(() => {
  for (const host of rig.endpoints.accepted) if (!closed.has(host)) host.close();
  rig.close();
  assert.equal(openDescriptors(), atStart, "descriptors are left open");
});

const closed = new WeakSet<HostEnd>();
function close(host: HostEnd): void {
  closed.add(host);
  host.close();
}

describe("a connection that the guest asks for", () => {
  it("is answered with the other way round addresses, our buffer and nothing forwarded", () => {
    rig.guest({ op: Op.REQUEST });
    const [{ header }] = rig.take();
    assert.equal(brief({ header, payload: Buffer.alloc(0) }), "RESPONSE");
    assert.deepEqual(
      { ...header },
      {
        ...header,
        srcCid: 2,
        srcCidHigh: 0,
        dstCid: GUEST_CID,
        dstCidHigh: 0,
        srcPort: HOST_PORT,
        dstPort: GUEST_PORT,
        len: 0,
        type: 1,
        flags: 0,
        bufAlloc: DEFAULT_LIMITS.bufferBytes,
        fwdCnt: 0,
      },
    );
  });

  it("is reset if nothing listens on the port, and the log says so", () => {
    rig.guest({ op: Op.REQUEST, dstPort: 6000 });
    const [{ header }] = rig.take();
    assert.equal(header.op, Op.RST);
    assert.deepEqual([header.srcPort, header.dstPort], [6000, GUEST_PORT]);
    assert.deepEqual(rig.events, ["connection-refused"]);
    assert.match(rig.records[0].message, /nothing listens there/);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  for (const code of ["ECONNREFUSED", "EACCES", "EMFILE", "ENFILE", "ENOMEM", "EPROTOTYPE"] as const) {
    it(`is reset if connecting fails with ${code}`, () => {
      rig.endpoints.failure = -errno[code];
      rig.guest({ op: Op.REQUEST });
      assert.deepEqual(rig.heard(), ["RST"]);
      assert.equal(rig.vsock.connectionCount, 0);
    });
  }

  it("is tried once more without descriptors, if some were about to be closed", () => {
    const ended = createEventfd();
    rig.loop.unwatchAndClose(ended, rig.loop.watch(ended, EPOLLIN | EPOLLET, { onEvents() {} }));
    rig.endpoints.failure = -errno.EMFILE;
    rig.guest({ op: Op.REQUEST });
    assert.equal(rig.endpoints.calls, 2);
    rig.guest({ op: Op.REQUEST });
    assert.equal(rig.endpoints.calls, 3);
    assert.deepEqual(rig.heard(), ["RST", "RST"]);
  });

  it("is tried again while the listener's backlog is full, and then established", () => {
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST });
    rig.pass(5 * CONNECT_RETRY_MS);
    assert.deepEqual(rig.heard(), []);
    assert.equal(rig.endpoints.calls, 6);
    rig.endpoints.failure = 0;
    rig.pass(CONNECT_RETRY_MS);
    assert.deepEqual(rig.heard(), ["RESPONSE"]);
  });

  it("is reset when the backlog stays full until the connect timeout", () => {
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST });
    rig.pass(DEFAULT_LIMITS.connectTimeoutMs - CONNECT_RETRY_MS);
    assert.deepEqual(rig.heard(), []);
    rig.pass(2 * CONNECT_RETRY_MS);
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.deepEqual(rig.events, ["connection-refused"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("is reset when the listener goes away between two tries", () => {
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST });
    rig.endpoints.failure = -errno.ENOENT;
    rig.pass(CONNECT_RETRY_MS);
    assert.deepEqual(rig.heard(), ["RST"]);
  });

  it("is forgotten without an answer when the guest gives up while the backlog is full", () => {
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST });
    rig.guest({ op: Op.RST });
    assert.equal(rig.vsock.connectionCount, 0);
    rig.endpoints.failure = 0;
    rig.pass(100);
    assert.deepEqual(rig.heard(), []);
    assert.equal(rig.endpoints.accepted.length, 0);
  });

  it("is reset if the guest sends data before it has an answer", () => {
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST });
    rig.guest({ op: Op.RW }, "impatient");
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("keeps RESPONSE before the data of a host program that writes at once and leaves", () => {
    rig.ring.offered = 0;
    rig.guest({ op: Op.REQUEST });
    const [host] = rig.endpoints.accepted;
    host.write("hello");
    close(host);
    rig.settle();
    rig.ring.offered = 10;
    rig.settle();
    assert.deepEqual(rig.heard(), ["RESPONSE", "RW 5", "SHUTDOWN 3"]);
  });

  it("resets both the old and the new when the guest asks for a connection that exists", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.REQUEST });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
    assert.equal(rig.vsock.connectionCount, 0);
  });
});

describe("a connection that a host program asks for", () => {
  it("is requested of the guest from an assigned port, and the opener hears of the answer", () => {
    const { host, opener } = rig.hostAsks(80);
    const [{ header }] = rig.take();
    assert.equal(header.op, Op.REQUEST);
    assert.equal(header.dstPort, 80);
    assert.ok(header.srcPort >= 2 ** 30 && header.srcPort < 2 ** 31);
    assert.equal(opener.hostPort, undefined);
    rig.guest({ op: Op.RESPONSE, srcPort: 80, dstPort: header.srcPort });
    assert.equal(opener.hostPort, header.srcPort);
    host.write("to the guest");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 12"]);
    rig.guest({ op: Op.RW, srcPort: 80, dstPort: header.srcPort }, "to the host");
    assert.equal(host.readAll().toString(), "to the host");
    host.close();
  });

  it("gives concurrent requests for one guest port different ports", () => {
    const asked = [rig.hostAsks(), rig.hostAsks(), rig.hostAsks()];
    assert.equal(new Set(rig.take().map(({ header }) => header.srcPort)).size, 3);
    for (const { host } of asked) host.close();
  });

  it("fails with a reason when the guest resets it, without a reset back", () => {
    const { host, opener } = rig.hostAsks();
    const [{ header }] = rig.take();
    rig.guest({ op: Op.RST, dstPort: header.srcPort });
    assert.match(opener.reason ?? "", /nothing listens/);
    assert.equal(host.condition, "end");
    assert.deepEqual(rig.heard(), []);
    host.close();
  });

  it("fails at the connect timeout, and the guest that may still answer is reset", () => {
    const { host, opener } = rig.hostAsks();
    const [{ header }] = rig.take();
    rig.pass(DEFAULT_LIMITS.connectTimeoutMs - 1, 100);
    assert.equal(opener.reason, undefined);
    rig.pass(1);
    assert.match(opener.reason ?? "", /did not answer within 2000 ms/);
    assert.deepEqual(rig.heard(), ["RST"]);
    rig.guest({ op: Op.RESPONSE, dstPort: header.srcPort });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
    host.close();
  });

  it("costs a guest that never saw the request nothing", () => {
    rig.ring.offered = 0;
    const { host, opener } = rig.hostAsks();
    host.close();
    rig.settle();
    assert.match(opener.reason ?? "", /closed its socket/);
    rig.ring.offered = 10;
    rig.settle();
    assert.deepEqual(rig.heard(), []);
    assert.equal(rig.vsock.connectionCount, 0);
    assert.equal(rig.vsock.hasWork, false);
  });

  it("is reset at the guest if the host program leaves before the answer", () => {
    const { host } = rig.hostAsks();
    assert.deepEqual(rig.heard(), ["REQUEST"]);
    host.close();
    rig.settle();
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("delivers what a half-closed host program had sent before the answer, and then its end", () => {
    const { host } = rig.hostAsks();
    host.write("all I say");
    host.endWriting();
    rig.settle();
    const [{ header }] = rig.take();
    rig.guest({ op: Op.RESPONSE, dstPort: header.srcPort });
    assert.deepEqual(rig.heard(), ["RW 9", "SHUTDOWN 2"]);
    host.close();
  });

  it("is refused, and its descriptor closed, beyond the limit of connections", () => {
    rig.close();
    rig = new SwitchRig({ maxConnections: 1 });
    const first = rig.hostAsks();
    const [ours, theirs] = socketPair();
    const opener = new RecordingOpener();
    rig.vsock.connectGuest(80, ours, opener);
    assert.match(opener.reason ?? "", /1 connections, which is the limit/);
    first.host.close();
    rig.settle();
    assert.equal(rig.vsock.connectionCount, 0);
    const end = rig.hostAsks().host;
    end.close();
    rig.settle();
    assert.equal(rig.vsock.connectionCount, 0);
    // The other end of the refused one is the test's to close.
    new (end.constructor as new (fd: number) => HostEnd)(theirs).close();
  });

  it("is ended by anything but RESPONSE and RST as an answer to REQUEST", () => {
    for (const op of [Op.RW, Op.SHUTDOWN, Op.REQUEST]) {
      const { host, opener } = rig.hostAsks();
      const [{ header }] = rig.take();
      rig.guest({ op, dstPort: header.srcPort }, op === Op.RW ? "x" : "");
      assert.deepEqual(rig.heard(), ["RST"]);
      assert.notEqual(opener.reason, undefined);
      host.close();
    }
  });
});

describe("packets that fit no connection", () => {
  it("are answered with a reset, except a reset", () => {
    for (const op of [0, 2, 4, 5, 6, 7, 9, 65535]) {
      rig.guest({ op, srcPort: 7, dstPort: 8 });
      const [{ header }] = rig.take();
      assert.deepEqual([header.op, header.srcPort, header.dstPort, header.type], [Op.RST, 8, 7, 1]);
    }
    rig.guest({ op: Op.RST });
    assert.deepEqual(rig.heard(), []);
  });

  it("of an unknown socket type are answered with a reset of that type, also if the ports are in use", () => {
    const host = rig.guestConnects();
    for (const type of [0, 2, 3, 65535]) {
      rig.guest({ op: Op.RW, type }, "lost");
      const [{ header }] = rig.take();
      assert.deepEqual([header.op, header.type], [Op.RST, type]);
    }
    assert.ok(rig.events.every((event) => event === "packet-refused"));
    rig.guest({ op: Op.RW }, "still here");
    assert.equal(host.readAll().toString(), "still here");
  });

  it("in another guest's name are dropped, those to another host are answered with a reset", () => {
    rig.guest({ op: Op.REQUEST, srcCid: 4 });
    rig.guest({ op: Op.REQUEST, srcCidHigh: 1 });
    assert.deepEqual(rig.heard(), []);
    rig.guest({ op: Op.REQUEST, dstCid: 1 });
    rig.guest({ op: Op.REQUEST, dstCidHigh: 1 });
    assert.deepEqual(
      rig.take().map(({ header }) => [header.op, header.srcCid]),
      [
        [Op.RST, 1],
        [Op.RST, 2],
      ],
    );
    assert.equal(rig.endpoints.calls, 0);
    assert.deepEqual(new Set(rig.events), new Set(["cid-limit"]));
    assert.equal(rig.vsock.counters.strayPackets, 4);
  });

  it("stop being accepted while too many resets wait for the guest, and are again when it takes them", () => {
    rig.ring.offered = 0;
    let packets = 0;
    for (; rig.vsock.acceptsPackets; packets++) rig.guest({ op: Op.RW, srcPort: packets });
    assert.equal(packets, 256);
    rig.ring.offered = 1;
    rig.settle();
    assert.equal(rig.vsock.acceptsPackets, true);
    rig.ring.offered = 1000;
    rig.settle();
    assert.deepEqual(
      rig.take().map(({ header }) => header.dstPort),
      Array.from({ length: 256 }, (_, port) => port),
    );
  });
});

describe("the limit of connections", () => {
  it("refuses further ones, says so once, and counts again when one has ended", () => {
    rig.close();
    rig = new SwitchRig({ maxConnections: 3 });
    for (const srcPort of [1, 2, 3]) rig.guestConnects({ srcPort });
    for (const srcPort of [4, 5, 6]) rig.guest({ op: Op.REQUEST, srcPort });
    assert.deepEqual(rig.heard(), ["RST", "RST", "RST"]);
    assert.equal(rig.events.filter((event) => event === "connection-limit").length, 1);
    assert.equal(rig.endpoints.accepted.length, 3);
    const { refusedBy, resetsBy } = rig.vsock.counters;
    assert.deepEqual([refusedBy.limit, resetsBy.stray], [3, 0], "refused, and not stray as well");
    rig.guest({ op: Op.RW, srcPort: 7 });
    assert.equal(resetsBy.stray, 1);
    assert.deepEqual(rig.heard(), ["RST"]);
    rig.guest({ op: Op.RST, srcPort: 2 });
    rig.guestConnects({ srcPort: 4 });
  });

  it("counts connections that only drain", () => {
    rig.close();
    rig = new SwitchRig({ maxConnections: 1 });
    rig.endpoints.sendBufferBytes = 4096;
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000));
    rig.guest({ op: Op.RST });
    assert.equal(rig.vsock.connectionCount, 1);
    rig.guest({ op: Op.REQUEST, srcPort: 9 });
    assert.deepEqual(rig.heard(), ["RST"]);
    while (rig.vsock.connectionCount > 0) {
      assert.ok(host.readAll().length > 0);
      rig.settle();
    }
    rig.guestConnects({ srcPort: 9 });
  });

  it("gives the last connections smaller buffers when the total is used up, and takes them back", () => {
    rig.close();
    rig = new SwitchRig({ totalBufferBytes: 2 ** 20, bufferBytes: 2 ** 18 });
    const sizes: number[] = [];
    for (let srcPort = 0; srcPort < 40; srcPort++) {
      rig.guest({ op: Op.REQUEST, srcPort });
      sizes.push(rig.take()[0].header.bufAlloc);
    }
    assert.equal(sizes[0], 2 ** 17);
    assert.deepEqual(
      [...sizes].sort((a, b) => b - a),
      sizes,
    );
    assert.equal(sizes.at(-1), 4096);
    assert.ok(sizes.reduce((sum, size) => sum + size, 0) <= 2 ** 20 + 40 * 4096);
    for (let srcPort = 0; srcPort < 40; srcPort++) rig.guest({ op: Op.RST, srcPort });
    rig.guest({ op: Op.REQUEST });
    assert.equal(rig.take()[0].header.bufAlloc, 2 ** 17);
  });
});

describe("when the guest's driver is gone", () => {
  it("every connection ends without a word to the guest, and those that waited hear why", () => {
    const first = rig.guestConnects({ srcPort: 1 });
    rig.guestConnects({ srcPort: 2 });
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND, srcPort: 2 });
    const { host, opener } = rig.hostAsks();
    rig.endpoints.failure = -errno.EAGAIN;
    rig.guest({ op: Op.REQUEST, srcPort: 3 });
    rig.take();
    rig.guest({ op: Op.RW, srcPort: 99 });
    rig.take();
    rig.vsock.reset("a test");
    assert.equal(opener.reason, "a test");
    assert.equal(rig.vsock.connectionCount, 0);
    assert.equal(rig.vsock.hasWork, false);
    rig.pass(3000, 100);
    assert.deepEqual(rig.heard(), []);
    assert.equal(first.condition, "end");
    assert.equal(host.condition, "end");
    host.close();
  });

  it("what it had sent is still delivered", () => {
    rig.endpoints.sendBufferBytes = 4096;
    const host = rig.guestConnects();
    const sent = Buffer.alloc(100_000, "abc");
    rig.guest({ op: Op.RW }, sent.subarray(0, 50_000));
    rig.guest({ op: Op.RW }, sent.subarray(50_000));
    rig.vsock.reset("a test");
    const got: Buffer[] = [];
    while (rig.vsock.connectionCount > 0) {
      got.push(host.readAll());
      rig.settle();
    }
    got.push(host.readAll());
    assert.ok(Buffer.concat(got).equals(sent));
    assert.equal(host.condition, "end");
  });

  it("the ports can be used anew while the old connection drains", () => {
    rig.endpoints.sendBufferBytes = 4096;
    const old = rig.guestConnects();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000, "o"));
    rig.guest({ op: Op.RST });
    const fresh = rig.guestConnects();
    rig.guest({ op: Op.RW }, "fresh");
    assert.equal(fresh.readAll().toString(), "fresh");
    let bytes = 0;
    while (rig.vsock.connectionCount > 1) {
      bytes += old.readAll().length;
      rig.settle();
    }
    bytes += old.readAll().length;
    assert.equal(bytes, 60_000);
  });
});
