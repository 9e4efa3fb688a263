import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { sendMessage } from "../linux/message-socket.js";
import { SendCredit } from "./credit.js";
import { Op, Shutdown } from "./header.js";
import { BURST_BYTES, DEFAULT_LIMITS } from "./limits.js";
import { FakeRing, type HostEnd, LINUX_BUFFER_BYTES, openDescriptors, SwitchRig } from "./switch-rig.js";

let rig: SwitchRig;
let atStart: number;
let closed: Set<HostEnd>;

beforeEach(() => {
  atStart = openDescriptors();
  closed = new Set();
  rig = new SwitchRig();
});

afterEach(() => {
  for (const host of rig.endpoints.accepted) if (!closed.has(host)) host.close();
  rig.close();
  assert.equal(openDescriptors(), atStart, "descriptors are left open");
});

function close(host: HostEnd): void {
  closed.add(host);
  host.close();
  rig.settle();
}

/** A connection whose host socket takes a few KiB before it is full. */
function narrowConnection(): HostEnd {
  rig.endpoints.sendBufferBytes = 4096;
  return rig.guestConnects();
}

describe("data from the guest", () => {
  it("arrives whole, in any framing of header and payload", () => {
    const host = rig.guestConnects();
    const text = "the quick brown fox jumps over the lazy dog";
    for (const framing of [[1], [44, 1], [43, 2, 1], [45, 100], [20, 24, 10], [200], [44, 43]]) {
      rig.guest({ op: Op.RW }, text, framing);
      assert.equal(host.readAll().toString(), text, `pieces of ${framing}`);
    }
    rig.guest({ op: Op.RW }, Buffer.alloc(3000, "x"), [1]);
    assert.equal(host.readAll().toString(), "x".repeat(3000));
  });

  it("of consecutive packets and of connections that alternate stays in order", () => {
    const hosts = [rig.guestConnects({ srcPort: 1 }), rig.guestConnects({ srcPort: 2 })];
    const expected = ["", ""];
    for (let index = 0; index < 60; index++) {
      const which = index % 7 < 3 ? 0 : 1;
      rig.enqueue({ op: Op.RW, srcPort: which + 1 }, `${index},`);
      expected[which] += `${index},`;
    }
    rig.vsock.flush();
    assert.deepEqual(
      hosts.map((host) => host.readAll().toString()),
      expected,
    );
  });

  it("that the host socket does not take waits, is written when there is room, and only then acknowledged", () => {
    const host = narrowConnection();
    const sent = Buffer.alloc(200_000, "0123456789");
    for (let at = 0; at < sent.length; at += 50_000) {
      rig.guest({ op: Op.RW }, sent.subarray(at, at + 50_000));
    }
    rig.guest({ op: Op.CREDIT_REQUEST });
    const told = rig.take().at(-1)?.header.fwdCnt ?? -1;
    assert.ok(told < 100_000, `${told} bytes are acknowledged`);
    const got: Buffer[] = [];
    for (let piece = host.readAll(); piece.length > 0; piece = host.readAll()) {
      got.push(piece);
      rig.settle();
    }
    assert.ok(Buffer.concat(got).equals(sent));
    rig.guest({ op: Op.CREDIT_REQUEST });
    assert.equal(rig.take().at(-1)?.header.fwdCnt, 200_000);
  });

  it("fits into a host socket that was full once, as much of it as the guest may send ahead", () => {
    const wide = new SwitchRig({ widensSockets: true, bufferBytes: 262_144 });
    try {
      const host = wide.guestConnects();
      const piece = Buffer.alloc(65_536, "w");
      const acknowledged = (): number => {
        wide.guest({ op: Op.CREDIT_REQUEST });
        return wide.take().at(-1)?.header.fwdCnt ?? -1;
      };
      for (let index = 0; index < 4; index++) wide.guest({ op: Op.RW }, piece);
      const first = acknowledged();
      assert.ok(first < 262_144, "a socket as the system makes it holds less");
      while (host.readAll().length > 0) wide.settle();
      for (let index = 0; index < 4; index++) wide.guest({ op: Op.RW }, piece);
      assert.equal(acknowledged(), 2 * 262_144, "it holds all of the second window");
      host.close();
    } finally {
      wide.close();
    }
  });

  describe("that comes a window at a time", () => {
    const FIRST = 16_384;
    const LIMITS = { firstBufferBytes: FIRST, bufferBytes: 100_000, totalBufferBytes: 1_000_000 };
    /** The window that the guest is told of when it has sent so many bytes at once. */
    const windowAfter = (growing: SwitchRig, bytes: number, srcPort = 1): number => {
      growing.enqueue({ op: Op.RW, srcPort }, Buffer.alloc(bytes));
      growing.vsock.flush();
      growing.guest({ op: Op.CREDIT_REQUEST, srcPort });
      return growing.take().at(-1)?.header.bufAlloc ?? -1;
    };

    it("makes the window grow to its limit, as long as the host socket takes it", () => {
      const growing = new SwitchRig(LIMITS);
      try {
        const host = growing.guestConnects({ srcPort: 1 });
        assert.equal(windowAfter(growing, FIRST / 4 - 1), FIRST, "little at a time");
        for (const window of [2 * FIRST, 4 * FIRST, 100_000, 100_000]) {
          assert.equal(windowAfter(growing, FIRST), window);
          while (host.readAll().length > 0) growing.settle();
        }
        growing.endpoints.sendBufferBytes = 4096;
        const slow = growing.guestConnects({ srcPort: 2 });
        assert.equal(windowAfter(growing, FIRST, 2), FIRST, "a host program that does not read");
        slow.close();
        host.close();
      } finally {
        growing.close();
      }
    });

    it("makes it grow no further than the total of all connections allows", () => {
      const growing = new SwitchRig({ ...LIMITS, totalBufferBytes: 8 * FIRST });
      try {
        const host = growing.guestConnects({ srcPort: 1 });
        assert.equal(windowAfter(growing, FIRST), FIRST, "an eighth of what is left is less than it takes");
        host.close();
      } finally {
        growing.close();
      }
    });
  });

  it("beyond its credit resets the connection, and what was within is delivered", () => {
    const host = narrowConnection();
    const full = Buffer.alloc(65_536, "f");
    const packets = DEFAULT_LIMITS.bufferBytes / full.length;
    for (let index = 0; index < packets; index++) rig.guest({ op: Op.RW }, full);
    assert.ok(!rig.heard().includes("RST"));
    rig.guest({ op: Op.RW }, full);
    assert.deepEqual(rig.heard(), ["RST"]);
    let bytes = 0;
    while (rig.vsock.connectionCount > 0) {
      bytes += host.readAll().length;
      rig.settle();
    }
    bytes += host.readAll().length;
    assert.ok(bytes >= packets * full.length);
    assert.equal(host.condition, "end");
  });

  it("of one connection is not held up by another whose host program does not read", () => {
    rig.endpoints.sendBufferBytes = 4096;
    rig.guestConnects({ srcPort: 1 });
    const other = rig.guestConnects({ srcPort: 2 });
    for (let index = 0; index < 4; index++) {
      rig.enqueue({ op: Op.RW, srcPort: 1 }, Buffer.alloc(60_000));
      rig.enqueue({ op: Op.RW, srcPort: 2 }, `${index}`);
    }
    rig.vsock.flush();
    assert.equal(other.readAll().toString(), "0123");
    assert.deepEqual(rig.heard(), []);
  });

  it("is delivered before what the guest does next in the same burst", () => {
    for (const [op, flags, answer] of [
      [Op.SHUTDOWN, Shutdown.BOTH, ["RST"]],
      [Op.SHUTDOWN, Shutdown.SEND, []],
      [Op.RST, 0, []],
      [Op.REQUEST, 0, ["RST"]],
      [Op.RESPONSE, 0, ["RST"]],
    ] as const) {
      const host = rig.guestConnects();
      rig.enqueue({ op: Op.RW }, "the last ");
      rig.enqueue({ op: Op.RW }, "words");
      rig.enqueue({ op, flags });
      rig.vsock.flush();
      rig.settle();
      assert.equal(host.readAll().toString(), "the last words");
      assert.equal(host.condition, "end");
      assert.deepEqual(rig.heard(), answer);
      rig.vsock.reset("the next one");
    }
  });

  it("that there is no memory to hold resets its connection and no other", () => {
    rig.close();
    rig = new SwitchRig({ bufferBytes: 2 ** 52, totalBufferBytes: 2 ** 53 * 0.9 });
    const other = rig.guestConnects({ srcPort: 1 });
    rig.endpoints.sendBufferBytes = 4096;
    const full = rig.guestConnects({ srcPort: 2 });
    rig.guest({ op: Op.RW, srcPort: 2 }, Buffer.alloc(60_000));
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.match(rig.records[0].message, /no memory/);
    full.readAll();
    assert.equal(full.condition, "end");
    rig.guest({ op: Op.RW, srcPort: 1 }, "unharmed");
    assert.equal(other.readAll().toString(), "unharmed");
  });

  it("of zero bytes changes nothing", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW });
    assert.equal(host.condition, "open");
    assert.deepEqual(rig.heard(), []);
  });
});

describe("our credit", () => {
  it("is told by an update once the guest has used more than half, and not for each packet", () => {
    const host = rig.guestConnects();
    for (let index = 0; index < 130; index++) {
      rig.guest({ op: Op.RW }, Buffer.alloc(1024));
      host.readAll();
    }
    const updates = rig.take();
    assert.deepEqual(
      updates.map(({ header }) => [header.op, header.fwdCnt]),
      [[Op.CREDIT_UPDATE, 129 * 1024]],
    );
  });

  for (const bufAlloc of [128, 4096, 65_536, LINUX_BUFFER_BYTES, 2 ** 21]) {
    it(`never leaves a Linux guest waiting that sends only ${bufAlloc} bytes ahead, as much as it can receive itself`, () => {
      rig.close();
      rig = new SwitchRig({ bufferBytes: 2 ** 20 });
      const host = rig.guestConnects({ bufAlloc });
      const window = Math.min(bufAlloc, 2 ** 20);
      let sent = 0;
      let acknowledged = 0;
      for (let packets = 0; packets < 200; packets++) {
        const room = Math.min(window - (sent - acknowledged), 65_536);
        assert.ok(room > 0, `stuck after ${sent} bytes with ${acknowledged} acknowledged`);
        rig.guest({ op: Op.RW, bufAlloc }, Buffer.alloc(room));
        sent += room;
        host.readAll();
        rig.settle();
        for (const { header } of rig.take()) acknowledged = header.fwdCnt;
      }
    });
  }

  it("rides on data, so that an update of its own is not needed", () => {
    const host = rig.guestConnects();
    for (let index = 0; index < 40; index++) {
      rig.guest({ op: Op.RW, fwdCnt: index }, Buffer.alloc(5000));
      host.readAll();
      host.write("!");
      rig.settle();
    }
    const packets = rig.take();
    assert.ok(packets.every(({ header }) => header.op === Op.RW));
    assert.deepEqual(
      packets.map(({ header }) => header.fwdCnt),
      Array.from({ length: 40 }, (_, index) => 5000 * (index + 1)),
    );
  });

  it("is told when asked for, in every state in which the guest may ask", () => {
    rig.guestConnects();
    rig.guest({ op: Op.CREDIT_REQUEST });
    assert.deepEqual(rig.heard(), ["CREDIT_UPDATE"]);
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    rig.guest({ op: Op.CREDIT_REQUEST });
    assert.deepEqual(rig.heard(), ["CREDIT_UPDATE"]);
  });
});

describe("data for the guest", () => {
  it("is spread over its buffers in order, whatever they hold", () => {
    rig.close();
    rig = new SwitchRig({}, new FakeRing(Number.POSITIVE_INFINITY, [10, 0, 3, 4000, 1]));
    const host = rig.guestConnects();
    const text = Array.from({ length: 2000 }, (_, index) => `${index} `).join("");
    host.write(text);
    rig.settle();
    const packets = rig.take();
    assert.equal(Buffer.concat(packets.map(({ payload }) => payload)).toString(), text);
    for (const { header } of packets) assert.equal(header.op, header.len === 0 ? Op.CREDIT_UPDATE : Op.RW);
  });

  it("does not stop where the host program passes descriptors, which go nowhere", () => {
    const host = rig.guestConnects();
    const before = openDescriptors();
    sendMessage(host.fd, Buffer.from("one "), [host.fd]);
    sendMessage(host.fd, Buffer.from("two "), [host.fd, host.fd]);
    host.write("three");
    rig.settle();
    assert.equal(Buffer.concat(rig.take().map(({ payload }) => payload)).toString(), "one two three");
    assert.equal(openDescriptors(), before);
  });

  it("waits for credit, is sent as it comes, and never exceeds it", () => {
    const host = rig.guestConnects({ bufAlloc: 5000 });
    host.write(Buffer.alloc(20_000, "c"));
    rig.settle();
    const total = () => rig.ring.sent.reduce((sum, { header }) => sum + header.len, 0);
    let consumed = 0;
    for (let round = 0; round < 50 && total() < 20_000; round++) {
      assert.ok(total() - consumed <= 5000);
      consumed = total();
      rig.guest({ op: Op.CREDIT_UPDATE, bufAlloc: 5000, fwdCnt: consumed });
    }
    assert.equal(total(), 20_000);
  });

  it("is not read while the guest gives no credit, and credit is asked for at growing intervals", () => {
    const host = rig.guestConnects({ bufAlloc: 0 });
    host.write("patience");
    rig.settle();
    assert.deepEqual(rig.heard(), []);
    rig.pass(1);
    assert.deepEqual(rig.heard(), ["CREDIT_REQUEST"]);
    rig.guest({ op: Op.CREDIT_UPDATE, bufAlloc: 0 });
    rig.pass(10_000, 50);
    const asked = rig.heard();
    assert.ok(asked.length >= 8 && asked.length <= 16, `asked ${asked.length} times in 10 s`);
    rig.guest({ op: Op.CREDIT_UPDATE, bufAlloc: 100 });
    assert.deepEqual(rig.heard(), ["RW 8"]);
    rig.pass(10_000, 50);
    assert.deepEqual(rig.heard(), []);
  });

  it("wakes nobody while the guest takes no question either, and asks on once it does", () => {
    const host = rig.guestConnects({ bufAlloc: 0 });
    host.write("patience");
    rig.settle();
    rig.ring.offered = 0;
    rig.pass(1);
    assert.equal(rig.loop.timers.msUntilNext(), -1, "a timer runs");
    rig.pass(10_000, 50);
    rig.ring.offered = 100;
    rig.settle();
    assert.deepEqual(rig.heard(), ["CREDIT_REQUEST"]);
    rig.pass(4);
    assert.deepEqual(rig.heard(), ["CREDIT_REQUEST"]);
  });

  it("that waits for credit again asks as soon as the first time, however long it waited before", () => {
    const host = rig.guestConnects({ bufAlloc: 0 });
    host.write("x".repeat(5000));
    rig.settle();
    rig.pass(1400, 1);
    rig.heard();
    rig.guest({ op: Op.CREDIT_UPDATE, bufAlloc: 100 });
    assert.deepEqual(rig.heard(), ["RW 100"]);
    rig.pass(1);
    assert.deepEqual(rig.heard(), ["CREDIT_REQUEST"]);
  });

  it("is not waited for when the last of the credit took all that there was", () => {
    const credit = new SendCredit();
    credit.update(2000, 0);
    const all = credit.available(rig.ring.capacities[0]);
    const host = rig.guestConnects({ bufAlloc: 2000 });
    // The read that takes it is full, so nothing shows whether there is more; and there is no credit to look by reading.
    host.write("x".repeat(all));
    rig.settle();
    assert.deepEqual(rig.heard(), [`RW ${all}`]);
    rig.pass(5000, 10);
    assert.deepEqual(rig.heard(), [], "credit is asked for, and nothing waits for it");
    host.write("more");
    rig.guest({ op: Op.CREDIT_UPDATE, bufAlloc: 2000, fwdCnt: all });
    assert.deepEqual(rig.heard(), ["RW 4"]);
  });

  it("goes out half a window at a time, so that the guest works on it while the rest is read", () => {
    const host = rig.guestConnects({ bufAlloc: 2 ** 20 });
    rig.ring.capacities = [65_536];
    host.write("x".repeat(180_000));
    rig.loop.turn(0);
    const ends: string[] = [];
    const bytes: number[] = [];
    for (let end = ""; end !== "idle"; ) {
      end = rig.vsock.pump(rig.ring, 1024);
      ends.push(end);
      bytes.push(rig.take().reduce((sum, { header }) => sum + header.len, 0));
      assert.ok(ends.length < 10);
    }
    assert.deepEqual([ends[0], ends.at(-1)], ["more", "idle"]);
    assert.ok(
      bytes.every((each) => each < 2 * BURST_BYTES),
      `${bytes}`,
    );
    assert.equal(
      bytes.reduce((sum, each) => sum + each, 0),
      180_000,
    );
  });

  it("goes on when a guest that says nothing by itself has consumed many small packets", () => {
    // Linux before 6.8 sends no update while more than 64 KiB of its buffer is free.
    const host = rig.guestConnects();
    let sent = 0;
    let consumed = 0;
    for (let index = 0; index < 3000; index++) {
      host.write("x");
      rig.settle();
      if (index % 100 === 99) rig.pass(2);
      for (const { header } of rig.take()) {
        sent += header.len;
        if (header.op === Op.CREDIT_REQUEST) {
          consumed = sent;
          rig.guest({ op: Op.CREDIT_UPDATE, fwdCnt: consumed });
        }
      }
    }
    rig.pass(2000, 10);
    for (const { header } of rig.take()) sent += header.len;
    assert.equal(sent, 3000);
  });

  it("does not become a flood of tiny packets while the guest offers no buffers", () => {
    const host = rig.guestConnects();
    rig.ring.offered = 0;
    for (let index = 0; index < 200; index++) {
      host.write("tiny");
      rig.settle();
    }
    rig.ring.offered = 1000;
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 800"]);
  });

  it("never weighs more on the guest than its buffer, if each packet weighs 576 bytes besides", () => {
    // vsock/virtio in some kernels: bytes + packets * SKB_TRUESIZE(0) must not exceed buf_alloc.
    for (const chunk of [1, 10, 100, 1000, 100_000]) {
      const host = rig.guestConnects({ srcPort: chunk });
      for (let index = 0; index < 1000; index++) {
        if (host.write(Buffer.alloc(chunk)) < 0) break;
        rig.settle();
      }
      const packets = rig.take().filter(({ header }) => header.op === Op.RW);
      const weight = packets.reduce((sum, { header }) => sum + header.len + 576, 0);
      assert.ok(weight <= LINUX_BUFFER_BYTES, `${packets.length} packets weigh ${weight}`);
      assert.ok(weight >= LINUX_BUFFER_BYTES * 0.8);
    }
  });

  it("takes turns: a connection with much to send does not keep another waiting", () => {
    const big = { bufAlloc: 2 ** 30 };
    const busy = rig.guestConnects({ srcPort: 1, ...big });
    const quiet = rig.guestConnects({ srcPort: 2, ...big });
    rig.ring.offered = 0;
    busy.write(Buffer.alloc(200_000));
    quiet.write("me too");
    rig.settle();
    rig.ring.offered = 4;
    rig.settle();
    assert.ok(rig.take().some(({ header }) => header.dstPort === 2));
  });

  it("stops for a peer that claims to have consumed what was never sent, and harms nobody else", () => {
    const liar = rig.guestConnects({ srcPort: 1 });
    const honest = rig.guestConnects({ srcPort: 2 });
    rig.guest({ op: Op.CREDIT_UPDATE, srcPort: 1, fwdCnt: 12345 });
    liar.write("never");
    honest.write("surely");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 6"]);
  });
});

describe("half-close", () => {
  it("by the host tells the guest no-send, and leaves the guest's direction open", () => {
    const host = rig.guestConnects();
    host.write("the last word");
    host.endWriting();
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 13", "SHUTDOWN 2"]);
    rig.guest({ op: Op.RW }, "an answer");
    assert.equal(host.readAll().toString(), "an answer");
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
  });

  it("by the guest ends the host's reading and leaves its writing open", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW }, "the last word");
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.equal(host.readAll().toString(), "the last word");
    assert.equal(host.condition, "end");
    host.write("an answer");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 9"]);
    close(host);
    assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
    rig.guest({ op: Op.RST });
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("by the guest, then by the host, is a clean close", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    host.endWriting();
    rig.settle();
    assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
    rig.guest({ op: Op.RST });
    assert.deepEqual(rig.heard(), []);
    assert.deepEqual(rig.events, []);
  });

  it("by the host, then by the guest, is a clean close", () => {
    const host = rig.guestConnects();
    host.endWriting();
    rig.settle();
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(rig.heard(), ["SHUTDOWN 2", "SHUTDOWN 3"]);
    rig.guest({ op: Op.RST });
    assert.equal(rig.vsock.connectionCount, 0);
    assert.deepEqual(rig.events, []);
  });

  it("by both at the same time is a clean close", () => {
    const host = rig.guestConnects();
    rig.ring.offered = 0;
    host.endWriting();
    rig.settle();
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    rig.ring.offered = 10;
    rig.settle();
    assert.ok(rig.heard().includes("SHUTDOWN 3"));
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("by the guest of its receiving refuses what the host writes, and the rest goes on", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.RECEIVE });
    assert.ok(host.write("nobody listens") < 0);
    rig.guest({ op: Op.RW }, "but I talk");
    assert.equal(host.readAll().toString(), "but I talk");
    assert.deepEqual(rig.heard(), []);
    close(host);
    assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
  });

  it("of the guest's receiving and then its sending is a close", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.RECEIVE });
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
  });

  it("by the host of its reading tells the guest no-receive when it writes, and resets at the end as bytes are lost", () => {
    const host = rig.guestConnects();
    host.endReading();
    rig.guest({ op: Op.RW }, "lost");
    assert.deepEqual(rig.heard(), ["SHUTDOWN 1"]);
    host.write("still talking");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 13"]);
    for (let index = 0; index < 10; index++) rig.guest({ op: Op.RW, fwdCnt: 13 }, Buffer.alloc(60_000));
    assert.deepEqual(rig.heard(), []);
    close(host);
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("is noticed by a guest that gives no credit", () => {
    const host = rig.guestConnects({ bufAlloc: 10 });
    host.write("ten bytes.");
    host.endWriting();
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 10", "SHUTDOWN 2"]);
    close(host);
    assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
  });

  it("that the guest repeats changes nothing", () => {
    rig.guestConnects();
    for (let index = 0; index < 5; index++) rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    for (let index = 0; index < 5; index++) rig.guest({ op: Op.SHUTDOWN, flags: 0xffff_fff8 });
    assert.deepEqual(rig.heard(), []);
    rig.guest({ op: Op.RW }, "after all");
    assert.deepEqual(rig.heard(), ["RST"]);
  });
});

describe("the end of a connection", () => {
  it("by a host program that has read everything is a clean close", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW }, "thanks");
    host.readAll();
    host.write("bye");
    close(host);
    assert.deepEqual(rig.heard(), ["RW 3", "SHUTDOWN 3"]);
    rig.guest({ op: Op.RST });
    assert.deepEqual(rig.events, []);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("is a reset if the guest does not answer a clean close in time", () => {
    close(rig.guestConnects());
    assert.deepEqual(rig.heard(), ["SHUTDOWN 3"]);
    rig.pass(DEFAULT_LIMITS.shutdownTimeoutMs - 1, 500);
    assert.deepEqual(rig.heard(), []);
    rig.pass(1);
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.deepEqual(rig.events, ["connection-reset"]);
  });

  it("by a host program that left bytes unread is a reset, after what it had written", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW }, "unread");
    host.write("written before");
    close(host);
    assert.deepEqual(rig.heard(), ["RW 14", "RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
    assert.match(rig.records[0].message, /ECONNRESET/);
  });

  it("by a host program that left bytes unread is a reset also if the guest writes before we look", () => {
    const host = rig.guestConnects();
    rig.guest({ op: Op.RW }, "unread");
    host.write("written before");
    closed.add(host);
    host.close();
    rig.guest({ op: Op.RW }, "too late");
    assert.deepEqual(rig.heard(), ["SHUTDOWN 1", "RW 14", "RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("by a host program while bytes wait for it is a reset", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000));
    close(host);
    assert.ok(rig.heard().includes("RST"));
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("by a host program that half-closed before, while the guest still sends, is a reset", () => {
    const host = rig.guestConnects();
    host.endWriting();
    rig.settle();
    closed.add(host);
    host.close();
    rig.guest({ op: Op.RW }, "too late");
    assert.deepEqual(rig.heard(), ["SHUTDOWN 2", "RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("by the guest's SHUTDOWN waits until everything is delivered, and is answered with a reset", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000, "w"));
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    assert.deepEqual(rig.heard(), []);
    let bytes = 0;
    while (rig.vsock.connectionCount > 0) {
      bytes += host.readAll().length;
      rig.settle();
    }
    bytes += host.readAll().length;
    assert.equal(bytes, 60_000);
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
  });

  it("by the guest's SHUTDOWN, then its reset, still delivers what waited", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000, "w"));
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    rig.guest({ op: Op.RST });
    let bytes = 0;
    while (rig.vsock.connectionCount > 0) {
      bytes += host.readAll().length;
      rig.settle();
    }
    bytes += host.readAll().length;
    assert.equal(bytes, 60_000);
    assert.deepEqual(rig.heard(), []);
  });

  it("by the guest's half-close while bytes wait comes after them", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000, "w"));
    rig.guest({ op: Op.SHUTDOWN, flags: Shutdown.SEND });
    let bytes = 0;
    for (let piece = host.readAll(); piece.length > 0; piece = host.readAll()) {
      bytes += piece.length;
      rig.settle();
    }
    assert.equal(bytes, 60_000);
    assert.equal(host.condition, "end");
    host.write("and back");
    rig.settle();
    assert.ok(rig.heard().includes("RW 8"));
  });

  it("by the guest's reset waits for a host program however slow it is, and it gets everything", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000, "w"));
    rig.guest({ op: Op.RST });
    rig.pass(24 * 60 * 60 * 1000, 60 * 60 * 1000);
    assert.equal(rig.vsock.connectionCount, 1);
    let bytes = 0;
    for (let piece = host.readAll(); piece.length > 0; piece = host.readAll()) {
      bytes += piece.length;
      rig.settle();
    }
    assert.equal(bytes, 60_000);
    assert.equal(host.condition, "end");
    assert.equal(rig.vsock.connectionCount, 0);
    assert.deepEqual(rig.events, ["connection-reset"]);
  });

  it("by the guest's reset with bytes that the host program then leaves untaken is told in the log", () => {
    const host = narrowConnection();
    rig.guest({ op: Op.RW }, Buffer.alloc(60_000));
    rig.guest({ op: Op.RST });
    close(host);
    assert.equal(rig.vsock.connectionCount, 0);
    assert.deepEqual(rig.events, ["connection-reset", "bytes-undelivered"]);
  });

  it("by the guest's reset drops what the host had not sent yet and closes its socket", () => {
    const host = rig.guestConnects();
    rig.ring.offered = 0;
    host.write("in flight");
    rig.settle();
    rig.guest({ op: Op.RST });
    rig.ring.offered = 10;
    rig.settle();
    assert.deepEqual(rig.heard(), []);
    assert.notEqual(host.condition, "open");
    assert.deepEqual(rig.events, ["connection-reset"]);
  });

  it("leaves nothing in the lists of what is due, however many come and go while the guest takes no packets", () => {
    rig.ring.offered = 0;
    for (let index = 0; index < 500; index++) {
      const { host } = rig.hostAsks();
      host.close();
      rig.settle();
    }
    assert.equal(rig.vsock.connectionCount, 0);
    assert.equal(rig.vsock.hasWork, false);
  });
});
