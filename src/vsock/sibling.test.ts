/**
 * Connections between two guests of one thread: who may reach whom, what each hears of what the other does, credit of
 * either side, and that nobody is held up or left waiting.
 */
import assert from "node:assert/strict";
import { randomFillSync } from "node:crypto";
import { afterEach, describe, it } from "node:test";
import { HOST_CID, MessageEnd, Op, Shutdown, SocketType } from "./header.js";
import { CID_A, CID_B, type PairOptions, PORT_A, PORT_B, SiblingPair } from "./sibling-rig.js";
import { FakeRing, HOST_PORT } from "./switch-rig.js";

const KIB = 1024;
const { EOM, EOR } = MessageEnd;

let pair: SiblingPair;
const open = (options?: PairOptions, type: number = SocketType.STREAM) => {
  pair = new SiblingPair(options);
  pair.type = type;
  return pair;
};
afterEach(() => {
  assert.doesNotThrow(() => pair.close());
});

const noise = (bytes: number) => randomFillSync(Buffer.alloc(bytes));
const same = (actual: Buffer, expected: Buffer) => {
  assert.equal(actual.length, expected.length);
  assert.ok(actual.equals(expected), "the bytes differ");
};

describe("a connection between siblings", () => {
  it("begins with a REQUEST and a RESPONSE in which each sees the other's CID and port", () => {
    open();
    pair.say("a", { op: Op.REQUEST });
    const [asked] = pair.b.take();
    assert.deepEqual(
      [asked.header.op, asked.header.srcCid, asked.header.srcPort, asked.header.dstCid, asked.header.dstPort],
      [Op.REQUEST, CID_A, PORT_A, CID_B, PORT_B],
    );
    assert.deepEqual(pair.a.heard(), [], "nothing before the sibling has agreed");
    pair.say("b", { op: Op.RESPONSE });
    const [answer] = pair.a.take();
    assert.deepEqual(
      [answer.header.op, answer.header.srcCid, answer.header.srcPort, answer.header.dstPort],
      [Op.RESPONSE, CID_B, PORT_B, PORT_A],
    );
  });

  it("tells each guest the device's own buffer, not the sibling's", () => {
    open({ limits: { bufferBytes: 8 * KIB } });
    pair.say("a", { op: Op.REQUEST, bufAlloc: 77_777 });
    assert.equal(pair.b.take()[0].header.bufAlloc, 8 * KIB);
    pair.say("b", { op: Op.RESPONSE, bufAlloc: 99_999 });
    assert.equal(pair.a.take()[0].header.bufAlloc, 8 * KIB);
  });

  it("carries bytes both ways, whatever the pieces they lie in", () => {
    open();
    pair.connect();
    const [toB, toA] = [noise(20_000), noise(9000)];
    pair.say("a", { op: Op.RW }, toB, [44, 1000, 1, 7000, 65_536]);
    pair.say("b", { op: Op.RW }, toA, [50, 13, 65_536]);
    same(pair.received("b"), toB);
    same(pair.received("a"), toA);
  });

  it("coexists with the host's connection of the same ports", () => {
    open();
    pair.a.endpoints.served.add(PORT_B);
    const host = pair.a.guestConnects({ srcPort: PORT_A, dstPort: PORT_B });
    pair.connect();
    pair.say("a", { op: Op.RW }, "to the sibling");
    pair.say("a", { op: Op.RW, dstCid: HOST_CID }, "to the host");
    assert.equal(pair.received("b").toString(), "to the sibling");
    assert.equal(host.readAll().toString(), "to the host");
    pair.say("a", { op: Op.RST });
    pair.say("a", { op: Op.RW, dstCid: HOST_CID }, ", still");
    assert.equal(host.readAll().toString(), ", still");
    host.close();
  });
});

describe("a guest that asks for a guest", () => {
  it("is reset if they have no group in common", () => {
    open({ groupsA: ["g", "h"], groupsB: ["i"] });
    pair.say("a", { op: Op.REQUEST });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), []);
    assert.ok(pair.a.events.includes("cid-limit"));
  });

  it("is reset if there is no such CID, if its upper bits are set, or if it is its own", () => {
    open();
    pair.say("a", { op: Op.REQUEST, dstCid: 99 });
    pair.say("a", { op: Op.REQUEST, dstCidHigh: 1 });
    pair.say("a", { op: Op.REQUEST, dstCid: CID_A });
    assert.deepEqual(pair.a.heard(), ["RST", "RST", "RST"]);
    assert.deepEqual(pair.b.heard(), []);
  });

  it("is reset while the sibling's driver does not run", () => {
    open();
    pair.b.pause();
    pair.say("a", { op: Op.REQUEST });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    pair.b.goOn();
    assert.deepEqual(pair.b.heard(), []);
  });

  it("is reset if nothing listens there, and no trace of it is left", () => {
    open();
    pair.say("a", { op: Op.REQUEST });
    pair.say("b", { op: Op.RST });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.equal(pair.a.vsock.connectionCount + pair.b.vsock.connectionCount, 0);
  });

  it("is reset when the sibling does not answer in time, and the sibling is, too", () => {
    open({ limits: { connectTimeoutMs: 20 } });
    pair.say("a", { op: Op.REQUEST });
    pair.a.pass(30);
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), ["REQUEST", "RST"]);
  });

  it("is reset if the sibling's driver has no seqpacket sockets", () => {
    open({}, SocketType.SEQPACKET);
    pair.b.vsock.seqpacket = false;
    pair.say("a", { op: Op.REQUEST });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), []);
  });

  it("is reset at the limit of connections of either", () => {
    open({ limits: { maxConnections: 1 } });
    pair.connect();
    pair.say("a", { op: Op.REQUEST, srcPort: PORT_A + 1 });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), []);
    assert.equal(pair.b.vsock.connectionCount, 1);
  });

  it("may give up before the answer, of which the sibling hears only if it has heard of the request", () => {
    open();
    pair.say("a", { op: Op.REQUEST });
    pair.say("a", { op: Op.RST });
    assert.deepEqual(pair.b.heard(), ["REQUEST", "RST"]);
    pair.b.ring.offered = 0;
    pair.say("a", { op: Op.REQUEST });
    pair.say("a", { op: Op.RST });
    pair.b.ring.offered = 9;
    pair.b.settle();
    assert.deepEqual(pair.b.heard(), []);
    assert.deepEqual(pair.a.heard(), [], "who spoke last needs no answer");
  });

  it("is reset if it sends before the answer", () => {
    open();
    pair.say("a", { op: Op.REQUEST });
    pair.say("a", { op: Op.RW }, "too early");
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), ["REQUEST", "RST"]);
  });

  it("is reset for a packet of no connection, and the sibling hears nothing of a storm of them", () => {
    open();
    for (let count = 0; count < 50; count++) {
      pair.say("a", { op: Op.RW, srcPort: count }, "?");
      pair.say("a", { op: Op.RST, srcPort: count });
    }
    assert.deepEqual(pair.a.heard(), Array(50).fill("RST"));
    assert.deepEqual(pair.b.heard(), []);
  });

  it("cannot speak in its sibling's name", () => {
    open();
    pair.connect();
    pair.a.guest({ ...pair.fields("b"), srcCid: CID_B, dstCid: CID_A, op: Op.RW }, "forged");
    pair.b.guest({ ...pair.fields("a"), srcCid: CID_A, dstCid: CID_B, op: Op.RST });
    assert.deepEqual([pair.a.heard(), pair.b.heard()], [[], []]);
    assert.equal(pair.a.vsock.counters.strayPackets + pair.b.vsock.counters.strayPackets, 2);
    pair.say("a", { op: Op.RW }, "it goes on");
    assert.equal(pair.received("b").toString(), "it goes on");
  });
});

describe("the end of a connection between siblings", () => {
  it("is clean when one closes it: it hears the RST at once, the other a SHUTDOWN behind the last byte", () => {
    open();
    pair.connect();
    pair.say("a", { op: Op.RW }, "last words");
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), ["RW 10", "SHUTDOWN 3"]);
    pair.say("b", { op: Op.RST });
    assert.deepEqual([pair.a.heard(), pair.b.heard()], [[], []]);
    assert.equal(pair.a.vsock.connectionCount + pair.b.vsock.connectionCount, 0);
  });

  it("waits for bytes that the sibling has no room for", () => {
    open();
    pair.connect();
    pair.b.ring.offered = 0;
    pair.say("a", { op: Op.RW }, "late");
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(pair.a.heard(), [], "not before it has everything");
    pair.b.ring.offered = 9;
    pair.b.settle();
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(
      pair.b.heard(),
      ["SHUTDOWN 1", "RW 4", "SHUTDOWN 3"],
      "that it takes no more is true at once",
    );
  });

  it("is reset for a sibling that does not answer SHUTDOWN", () => {
    open({ limits: { shutdownTimeoutMs: 20 } });
    pair.connect();
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    pair.a.pass(30);
    assert.deepEqual(pair.b.heard(), ["SHUTDOWN 3", "RST"]);
  });

  it("leaves the other direction open if only one is closed", () => {
    open();
    pair.connect();
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(pair.b.heard(), ["SHUTDOWN 2"]);
    pair.say("b", { op: Op.RW }, "still answering");
    assert.equal(pair.received("a").toString(), "still answering");
    pair.say("b", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(pair.b.heard(), ["RST"]);
    assert.deepEqual(pair.a.heard(), ["SHUTDOWN 3"]);
  });

  it("is passed on as a reset when a guest receives no more, and the other has sent", () => {
    open();
    pair.connect();
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.RECEIVE });
    assert.deepEqual(pair.b.heard(), ["SHUTDOWN 1"]);
    pair.say("b", { op: Op.RW }, "into the void");
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(pair.b.heard(), ["RST"]);
    assert.deepEqual(pair.a.heard(), ["RST"]);
  });

  it("is a reset behind what was sent when one resets it", () => {
    open();
    pair.connect();
    pair.b.ring.offered = 0;
    pair.say("a", { op: Op.RW }, "before it");
    pair.say("a", { op: Op.RST });
    assert.equal(pair.a.vsock.connectionCount, 1, "it drains");
    pair.b.ring.offered = 9;
    pair.b.settle();
    assert.deepEqual(pair.b.heard(), ["RW 9", "RST"]);
    assert.deepEqual(pair.a.heard(), []);
    assert.equal(pair.a.vsock.connectionCount + pair.b.vsock.connectionCount, 0);
  });

  it("is a reset if it leaves bytes of the other unread", () => {
    open();
    pair.connect();
    pair.a.ring.offered = 0;
    pair.say("b", { op: Op.RW }, "never read");
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    pair.a.ring.offered = 9;
    pair.a.settle();
    assert.deepEqual(pair.b.heard(), ["RST"]);
    assert.deepEqual(pair.a.heard(), ["RST"]);
  });

  it("comes with the sibling's driver, of which the other guest hears by a reset", () => {
    open();
    pair.connect();
    pair.say("b", { op: Op.REQUEST, srcPort: 7, dstPort: 8 });
    assert.deepEqual(pair.a.heard(), ["REQUEST"]);
    pair.b.vsock.reset("the VM is gone");
    pair.a.settle();
    assert.deepEqual(pair.a.heard(), ["RST", "RST"]);
    assert.equal(pair.a.vsock.connectionCount, 0);
  });

  it("comes with the sibling's device, whose CID cannot be reached from then on", () => {
    open();
    pair.connect();
    pair.b.close();
    pair.a.settle();
    assert.deepEqual(pair.a.heard(), ["RST"]);
    pair.say("a", { op: Op.REQUEST });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    pair.b.close = () => {};
  });

  it("makes its ports free again on both sides", () => {
    open();
    for (let round = 0; round < 3; round++) {
      pair.connect();
      pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.BOTH });
      pair.say("a", { op: Op.REQUEST });
      assert.deepEqual(pair.a.heard(), ["RST", "RST"], "not before the sibling has seen the end");
      pair.say("b", { op: Op.RST });
      assert.deepEqual(pair.b.heard(), ["SHUTDOWN 3"]);
    }
  });
});

describe("credit between siblings", () => {
  it("is spent by the sender against the device's buffer, beyond which it is reset", () => {
    open({ limits: { bufferBytes: 8 * KIB } });
    pair.connect();
    pair.b.ring.offered = 0;
    pair.say("a", { op: Op.RW }, noise(8 * KIB));
    assert.deepEqual(pair.a.heard(), []);
    pair.say("a", { op: Op.RW }, "x");
    assert.deepEqual(pair.a.heard(), ["RST"]);
    pair.b.ring.offered = 9;
    pair.b.settle();
    assert.equal(pair.b.heard().at(-1), "RST");
  });

  it("comes back when bytes are in the sibling's buffers, and not before", () => {
    open({ limits: { bufferBytes: 8 * KIB } });
    pair.connect();
    pair.b.ring.offered = 0;
    pair.say("a", { op: Op.RW }, noise(6 * KIB));
    assert.deepEqual(pair.a.heard(), []);
    pair.b.ring.offered = 9;
    pair.b.settle();
    const [update] = pair.a.take();
    assert.deepEqual([update.header.op, update.header.fwdCnt], [Op.CREDIT_UPDATE, 6 * KIB]);
  });

  it("of the receiver is never exceeded, and asked for when none comes", () => {
    open();
    pair.connect({ bufAlloc: 4 * KIB });
    pair.consumed("b", 0, 4 * KIB);
    const sent = noise(10 * KIB);
    pair.say("a", { op: Op.RW }, sent);
    const first = pair.received("b");
    assert.ok(first.length > 0 && first.length <= 4 * KIB, `${first.length} bytes`);
    pair.a.pass(2);
    assert.deepEqual(pair.b.heard(), ["CREDIT_REQUEST"]);
    let got = first;
    for (let round = 0; got.length < sent.length && round < 10; round++) {
      pair.consumed("b", got.length, 4 * KIB);
      got = Buffer.concat([got, pair.received("b")]);
    }
    same(got, sent);
  });

  it("of a slow receiver holds up neither the sender's other connections nor the receiver's", () => {
    open();
    pair.b.endpoints.served.add(HOST_PORT);
    const hostOfA = pair.a.guestConnects();
    pair.connect({ bufAlloc: 0 });
    pair.say("a", { op: Op.REQUEST, srcPort: 2000 });
    pair.say("b", { op: Op.RESPONSE, dstPort: 2000 });
    pair.a.take();
    pair.b.take();
    pair.say("a", { op: Op.RW }, noise(100 * KIB));
    assert.equal(pair.received("b").length, 0);
    pair.say("a", { op: Op.RW, srcPort: 2000 }, "another connection");
    assert.equal(pair.received("b").toString(), "another connection");
    pair.a.guest({ op: Op.RW }, "the host's");
    assert.equal(hostOfA.readAll().toString(), "the host's");
    hostOfA.close();
  });

  it("grows the window of a sender that uses it", () => {
    open({ limits: { firstBufferBytes: 16 * KIB, bufferBytes: 64 * KIB } });
    pair.connect();
    let most = 0;
    for (let sent = 0; sent < 20; sent++) {
      pair.say("a", { op: Op.RW }, noise(16 * KIB));
      pair.consumed("b", (sent + 1) * 16 * KIB);
      for (const { header } of pair.a.take()) most = Math.max(most, header.bufAlloc);
      pair.b.take();
    }
    assert.equal(most, 64 * KIB);
  });

  it("and all buffers are given back: thousands of connections later there is as much as before", () => {
    open({ limits: { totalBufferBytes: 64 * KIB * 16, bufferBytes: 64 * KIB } });
    for (let round = 0; round < 200; round++) {
      pair.connect();
      pair.b.ring.offered = round % 2;
      pair.say("a", { op: Op.RW }, noise(5000));
      pair.say("a", {
        op: round % 3 === 0 ? Op.RST : Op.SHUTDOWN,
        flags: round % 3 === 0 ? 0 : Shutdown.BOTH,
      });
      pair.b.ring.offered = Number.POSITIVE_INFINITY;
      pair.b.settle();
      pair.say("b", { op: Op.RST });
      pair.a.take();
      pair.b.take();
    }
    pair.say("a", { op: Op.REQUEST });
    pair.say("b", { op: Op.RESPONSE });
    assert.equal(pair.a.take().at(-1)?.header.bufAlloc, 64 * KIB);
    assert.equal(pair.b.take().at(-1)?.header.bufAlloc, 64 * KIB);
  });
});

describe("messages between siblings", () => {
  const seqpacket = (options: PairOptions = {}) => open(options, SocketType.SEQPACKET);

  it("keep their boundaries, EOM and EOR, also empty ones", () => {
    seqpacket();
    pair.connect();
    pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM }), "one");
    pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM | EOR }), "three");
    pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM | EOR }), "");
    pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM }), "");
    pair.a.enqueue(pair.fields("a", { op: Op.RW }), "in ");
    pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM }), "parts");
    pair.a.vsock.flush();
    pair.a.settle();
    const sent = pair.b.take();
    assert.deepEqual(
      sent.map(({ header: { len, flags }, payload }) => [len, flags, payload.toString()]),
      [
        [3, EOM, "one"],
        [5, EOM | EOR, "three"],
        [0, EOM | EOR, ""],
        [0, EOM, ""],
        [8, EOM, "in parts"],
      ],
    );
  });

  it("longer than a buffer, and than all buffers that are offered, end once", () => {
    seqpacket({ ringB: new FakeRing(2, [100]) });
    pair.connect();
    pair.b.ring.offered = 2;
    const message = noise(530);
    pair.say("a", { op: Op.RW }, message.subarray(0, 300));
    pair.say("a", { op: Op.RW, flags: EOM | EOR }, message.subarray(300));
    pair.say("a", { op: Op.RW, flags: EOM }, "next");
    assert.deepEqual(
      pair.b.take().map(({ header }) => [header.len, header.flags]),
      [
        [100, 0],
        [100, 0],
      ],
    );
    pair.b.ring.offered = 10;
    pair.b.settle();
    const rest = pair.b.take();
    assert.deepEqual(
      rest.map(({ header }) => [header.len, header.flags]),
      [
        [100, 0],
        [100, 0],
        [100, 0],
        [30, EOM | EOR],
        [4, EOM],
      ],
    );
    same(Buffer.concat(rest.slice(0, 4).map(({ payload }) => payload)), message.subarray(200));
  });

  it("as long as the receiver's whole buffer arrive, although packets cost it more than their bytes", () => {
    seqpacket();
    pair.connect({ bufAlloc: 64 * KIB });
    for (let round = 1; round <= 3; round++) {
      const message = noise(64 * KIB);
      pair.say("a", { op: Op.RW, flags: EOM }, message);
      if (round > 1) pair.consumed("b", (round - 1) * 64 * KIB, 64 * KIB);
      const sent = pair.b.take();
      same(Buffer.concat(sent.map(({ payload }) => payload)), message);
      assert.equal(sent.at(-1)?.header.flags, EOM);
    }
  });

  it("may be no longer than the receiver's buffer, which the sender is told; beyond it, it is reset", () => {
    seqpacket();
    pair.say("a", { op: Op.REQUEST, bufAlloc: 5000 });
    assert.equal(pair.b.take()[0].header.bufAlloc, 5000);
    pair.say("b", { op: Op.RESPONSE, bufAlloc: 3000 });
    assert.equal(pair.a.take()[0].header.bufAlloc, 3000);
    pair.say("a", { op: Op.RW }, noise(2000));
    pair.say("a", { op: Op.RW, flags: EOM }, noise(1001));
    assert.deepEqual(pair.a.heard().at(-1), "RST");
    assert.deepEqual(pair.b.heard().at(-1), "RST");
  });

  it("are never ended within by a SHUTDOWN: that is a reset", () => {
    seqpacket();
    pair.connect();
    pair.say("a", { op: Op.RW }, "half a ");
    pair.say("a", { op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(pair.a.heard(), ["RST"]);
    assert.deepEqual(pair.b.heard(), ["RW 7", "RST"]);
  });

  it("without bytes cost memory, so too many that wait are a reset", () => {
    seqpacket({ limits: { bufferBytes: 4 * KIB } });
    pair.connect();
    pair.b.ring.offered = 0;
    for (let count = 0; count < 8200; count++) pair.a.enqueue(pair.fields("a", { op: Op.RW, flags: EOM }));
    pair.a.vsock.flush();
    pair.a.settle();
    assert.ok(pair.a.heard().includes("RST"));
  });

  it("of any lengths, through any number of buffers, arrive as they were sent", () => {
    seqpacket({ limits: { bufferBytes: 64 * KIB }, ringB: new FakeRing(0, [50, 3732, 0, 7]) });
    pair.b.ring.offered = 3;
    pair.connect();
    const random = (below: number) => Math.floor(Math.random() * below);
    const messages: { bytes: Buffer; flags: number }[] = [];
    const arrived: { bytes: Buffer; flags: number }[] = [];
    let part = Buffer.alloc(0);
    let consumed = 0;
    const collect = () => {
      for (const { header, payload } of pair.b.take()) {
        if (header.op !== Op.RW) continue;
        part = Buffer.concat([part, payload]);
        consumed += payload.length;
        if (header.flags === 0) continue;
        arrived.push({ bytes: part, flags: header.flags });
        part = Buffer.alloc(0);
      }
    };
    for (let round = 0; round < 400; round++) {
      pair.b.ring.offered = random(6);
      const bytes = noise(random(4) === 0 ? random(9000) : random(20));
      const flags = random(2) === 0 ? EOM : EOM | EOR;
      const cut = random(bytes.length + 1);
      if (cut > 0) pair.a.enqueue(pair.fields("a", { op: Op.RW }), bytes.subarray(0, cut));
      pair.a.enqueue(pair.fields("a", { op: Op.RW, flags }), bytes.subarray(cut));
      messages.push({ bytes, flags });
      if (random(3) === 0) continue;
      pair.a.vsock.flush();
      pair.b.settle();
      while (pair.a.vsock.connectionCount > 0 && arrived.length < messages.length) {
        pair.b.ring.offered = 1 + random(40);
        pair.consumed("b", consumed);
        collect();
        if (random(5) === 0) break;
      }
      assert.equal(pair.a.vsock.connectionCount, 1, pair.a.records.at(-1)?.message);
    }
    pair.a.vsock.flush();
    for (let round = 0; round < 10_000 && arrived.length < messages.length; round++) {
      pair.b.ring.offered = 20;
      pair.consumed("b", consumed);
      collect();
    }
    assert.equal(arrived.length, messages.length);
    arrived.forEach(({ bytes, flags }, index) => {
      assert.equal(flags, messages[index].flags);
      same(bytes, messages[index].bytes);
    });
  });
});
