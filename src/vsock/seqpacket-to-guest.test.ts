import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setSendBuffer } from "../linux/unix-socket.js";
import { MessageEnd, Op, Shutdown, SocketType } from "./header.js";
import {
  brief,
  FakeRing,
  type Fields,
  type HostEnd,
  LINUX_BUFFER_BYTES,
  openDescriptors,
  type Sent,
  SwitchRig,
} from "./switch-rig.js";

const type = SocketType.SEQPACKET;

let rig: SwitchRig;
let atStart: number;
let closed: Set<HostEnd>;

function newRig(ring?: FakeRing): void {
  rig = new SwitchRig({}, ring);
  rig.vsock.seqpacket = true;
}

beforeEach(() => {
  atStart = openDescriptors();
  closed = new Set();
  newRig();
});

afterEach(() => {
  for (const host of rig.endpoints.accepted) if (!closed.has(host)) host.close();
  rig.close();
  assert.equal(openDescriptors(), atStart, "descriptors are left open");
});

function connect(fields: Fields = {}): HostEnd {
  return rig.guestConnects({ type, ...fields });
}

function close(host: HostEnd): void {
  closed.add(host);
  host.close();
  rig.settle();
}

function send(host: HostEnd, message: string | Buffer): void {
  assert.equal(host.write(message), message.length);
  rig.settle();
}

/** Packets put together to messages, as a guest does; the last may be incomplete. */
function messagesOf(packets: readonly Sent[]): { whole: string[]; rest: string } {
  const whole: string[] = [];
  let rest = "";
  for (const { header, payload } of packets) {
    if (header.op !== Op.RW) continue;
    rest += payload.toString();
    if ((header.flags & MessageEnd.EOM) === 0) continue;
    whole.push(rest);
    rest = "";
  }
  return { whole, rest };
}

describe("messages of a host program", () => {
  it("reach the guest one by one, each with its end", () => {
    const host = connect();
    host.write("one");
    host.write("three");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 3 EOM", "RW 5 EOM"]);
    send(host, "after");
    assert.equal(rig.take()[0].payload.toString(), "after");
  });

  it("that are longer than a guest buffer are cut, and only the last packet has their end", () => {
    rig.close();
    newRig(new FakeRing(Number.POSITIVE_INFINITY, [300, 1000]));
    const host = connect();
    const text = "0123456789".repeat(250);
    send(host, text);
    const sent = rig.take();
    assert.deepEqual(sent.map(brief), ["RW 1000", "RW 300", "RW 1000", "RW 200 EOM"]);
    assert.deepEqual(messagesOf(sent), { whole: [text], rest: "" });
  });

  it("that are empty reach it as such, in front of the end as well", () => {
    const host = connect();
    host.write("");
    host.write("x");
    host.write("");
    host.endWriting();
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 0 EOM", "RW 1 EOM", "RW 0 EOM", `SHUTDOWN ${Shutdown.SEND}`]);
  });

  it("go through buffers without room for payload", () => {
    rig.close();
    newRig(new FakeRing(Number.POSITIVE_INFINITY, [0, 4]));
    const host = connect();
    send(host, "abcdef");
    send(host, "");
    const sent = rig.take();
    assert.deepEqual(messagesOf(sent), { whole: ["abcdef", ""], rest: "" });
  });

  it("wait until the guest has credit for all of them, while others go on", () => {
    const slow = connect({ srcPort: 1, bufAlloc: 10_000 });
    const other = connect({ srcPort: 2 });
    send(slow, Buffer.alloc(6000, "a"));
    assert.deepEqual(messagesOf(rig.take()).whole, ["a".repeat(6000)]);
    send(slow, Buffer.alloc(5000, "b"));
    assert.deepEqual(rig.heard(), []);
    send(other, "passes");
    assert.deepEqual(rig.heard(), ["RW 6 EOM"]);
    rig.guest({ type, srcPort: 1, op: Op.CREDIT_UPDATE, bufAlloc: 10_000, fwdCnt: 6000 });
    assert.deepEqual(messagesOf(rig.take()), { whole: ["b".repeat(5000)], rest: "" });
  });

  it("may be as long as the guest's whole buffer, though the packets cost it something on top", () => {
    const host = connect({ bufAlloc: 100_000 });
    send(host, Buffer.alloc(100_000, "c"));
    assert.deepEqual(messagesOf(rig.take()).whole, ["c".repeat(100_000)]);
  });

  it("that are longer than the guest's buffer reset the connection, and the log says why", () => {
    const host = connect({ bufAlloc: 1000 });
    send(host, "fits");
    rig.take();
    send(host, Buffer.alloc(1001));
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.match(
      rig.records.at(-1)?.message ?? "",
      /a message of 1001 bytes, and the guest's buffer holds 1000/,
    );
    assert.equal(host.condition, "reset");
  });

  it("for which there are too few guest buffers are held, sent as buffers come, and nothing of them is lost", () => {
    rig.close();
    const ring = new FakeRing(10, [1000]);
    newRig(ring);
    const host = connect();
    const text = Array.from({ length: 25_000 }, (_, index) => String.fromCharCode(97 + (index % 26))).join(
      "",
    );
    send(host, text);
    assert.equal(ring.offered, 0);
    // Its own turn comes first, resets and control packets in between.
    rig.guest({ type, srcPort: 99, op: Op.RW });
    const first = rig.take();
    assert.equal(messagesOf(first).rest.length, 9000);
    ring.offered = 4;
    rig.settle();
    const second = rig.take();
    assert.deepEqual(second.map(brief), ["RST", "RW 1000", "RW 1000", "RW 1000"]);
    ring.offered = 100;
    rig.settle();
    const all = [...first, ...second, ...rig.take()];
    assert.deepEqual(messagesOf(all), { whole: [text], rest: "" });
    send(host, "next");
    assert.deepEqual(rig.heard(), ["RW 4 EOM"]);
  });

  it("that are held when the guest resets the connection, or takes no more, are forgotten", () => {
    for (const end of [
      { op: Op.RST, flags: 0 },
      { op: Op.SHUTDOWN, flags: Shutdown.RECEIVE },
    ]) {
      rig.close();
      const ring = new FakeRing(10, [1000]);
      newRig(ring);
      const host = connect();
      send(host, Buffer.alloc(25_000));
      rig.take();
      rig.guest({ type, ...end });
      ring.offered = 100;
      rig.settle();
      assert.deepEqual(rig.heard(), []);
      const next = connect({ srcPort: 7 });
      send(next, "unharmed");
      assert.deepEqual(rig.heard(), ["RW 8 EOM"]);
      for (const host of rig.endpoints.accepted.splice(0)) host.close();
    }
  });

  it("that waited when the program went away still arrive, and the guest hears of the end", () => {
    const host = connect({ bufAlloc: 6 });
    for (const message of ["first", "second", "3rd"]) host.write(message);
    close(host);
    assert.deepEqual(rig.heard(), ["RW 5 EOM"]);
    rig.guest({ type, op: Op.CREDIT_UPDATE, bufAlloc: 6, fwdCnt: 5 });
    assert.deepEqual(rig.heard(), ["RW 6 EOM"]);
    rig.guest({ type, op: Op.CREDIT_UPDATE, bufAlloc: 6, fwdCnt: 11 });
    assert.deepEqual(rig.heard(), ["RW 3 EOM", `SHUTDOWN ${Shutdown.BOTH}`]);
  });

  it("of every size between nothing and the buffer arrive unchanged", () => {
    const host = connect();
    setSendBuffer(host.fd, LINUX_BUFFER_BYTES);
    let consumed = 0;
    for (const bytes of [1, 43, 44, 45, 3731, 3732, 3733, 7464, 65_535, 65_536, 65_537, 200_000]) {
      const message = Buffer.alloc(bytes, `${bytes},`);
      send(host, message);
      assert.deepEqual(messagesOf(rig.take()), { whole: [message.toString()], rest: "" });
      consumed += bytes;
      rig.guest({ type, op: Op.CREDIT_UPDATE, fwdCnt: consumed });
    }
  });
});

describe("a connection that a host program asks for", () => {
  it("is of its socket's type from the request on", () => {
    const { host, opener } = rig.hostAsks(1024, type);
    const [request] = rig.take();
    assert.deepEqual([request.header.op, request.header.type], [Op.REQUEST, type]);
    const hostPort = request.header.srcPort;
    rig.guest({ type, op: Op.RESPONSE, dstPort: hostPort });
    assert.equal(opener.hostPort, hostPort);
    send(host, "hello");
    assert.deepEqual(rig.heard(), ["RW 5 EOM"]);
    rig.guest({ type, op: Op.RW, flags: MessageEnd.EOM, dstPort: hostPort }, "answer");
    assert.equal(`${host.read()}`, "answer");
    host.close();
  });

  it("comes to nothing while the guest's driver knows no such sockets", () => {
    rig.vsock.seqpacket = false;
    const { host, opener } = rig.hostAsks(1024, type);
    assert.match(opener.reason ?? "", /no driver that has seqpacket sockets/);
    assert.equal(host.condition, "end");
    host.close();
  });
});
