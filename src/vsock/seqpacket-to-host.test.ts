import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import fc from "fast-check";
import { errno } from "../linux/errors.js";
import { peekMessage } from "../linux/seqpacket.js";
import { MessageEnd, Op, Shutdown, SocketType } from "./header.js";
import { MOST_EMPTY_MESSAGES } from "./limits.js";
import { type Fields, type HostEnd, openDescriptors, SwitchRig } from "./switch-rig.js";

const { EOM, EOR } = MessageEnd;
const type = SocketType.SEQPACKET;
/** What a socket with the kernel's usual SO_SNDBUF takes at once. */
const USUAL_LONGEST = 212_992 - 32;

let rig: SwitchRig;
let atStart: number;

beforeEach(() => {
  atStart = openDescriptors();
  rig = new SwitchRig();
  rig.vsock.seqpacket = true;
});

afterEach(() => {
  for (const host of rig.endpoints.accepted) host.close();
  rig.close();
  assert.equal(openDescriptors(), atStart, "descriptors are left open");
});

function connect(fields: Fields = {}): HostEnd {
  return rig.guestConnects({ type, ...fields });
}

/** A connection whose host socket takes a few KiB at once, and is soon full. */
function narrow(): HostEnd {
  rig.endpoints.sendBufferBytes = 4096;
  return connect();
}

function send(payload: Buffer | string, flags: number = EOM, framing?: readonly number[]): void {
  rig.guest({ type, op: Op.RW, flags }, payload, framing);
}

/** Every message that is there now, as text. */
function messages(host: HostEnd): string[] {
  const found: string[] = [];
  while (peekMessage(host.fd) >= 0) found.push(`${host.read()}`);
  return found;
}

/** Reads until nothing more comes, with turns of the device between. */
function drain(host: HostEnd): string[] {
  const all: string[] = [];
  for (let some = messages(host); some.length > 0; some = messages(host)) {
    all.push(...some);
    rig.settle();
  }
  return all;
}

describe("messages of the guest", () => {
  it("arrive one by one, in any framing, with EOR or without", () => {
    const host = connect();
    send("one");
    send("two", EOM | EOR);
    for (const framing of [[1], [44, 1], [45, 100], [20, 24, 10]]) send("three", EOM, framing);
    assert.deepEqual(messages(host), ["one", "two", "three", "three", "three", "three"]);
  });

  it("of several packets arrive when the last is there, as one", () => {
    const host = connect();
    send("be", 0);
    send("", 0);
    send("gin", 0);
    assert.deepEqual(messages(host), []);
    send("ning");
    send("next");
    assert.deepEqual(messages(host), ["beginning", "next"]);
  });

  it("may be as long as the buffer that the guest was told of, and that is what one system call takes", () => {
    rig.guest({ type, op: Op.REQUEST });
    assert.equal(rig.take()[0].header.bufAlloc, USUAL_LONGEST);
    const [host] = rig.endpoints.accepted;
    const long = Buffer.alloc(USUAL_LONGEST, "0123456789");
    for (let at = 0; at < long.length; at += 65_536)
      send(long.subarray(at, at + 65_536), at + 65_536 < long.length ? 0 : EOM);
    assert.ok((host.read() as Buffer).equals(long));
  });

  it("that are split into a thousand pieces of memory and more arrive as one", () => {
    const host = connect();
    send(Buffer.alloc(3000, "x"), EOM, [1]);
    assert.deepEqual(messages(host), ["x".repeat(3000)]);
  });

  it("that are empty arrive as such, and the end of the guest's direction behind them", () => {
    const host = connect();
    send("");
    send("x");
    send("");
    rig.guest({ type, op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual([`${host.read()}`, `${host.read()}`, `${host.read()}`], ["", "x", ""]);
    assert.equal(host.condition, "end");
  });

  it("wait in order while the host program is slow, whole messages and parts and empty ones", () => {
    const host = narrow();
    const sent: string[] = [];
    for (let index = 0; index < 40; index++) {
      const message = index % 5 === 0 ? "" : `${index}:`.padEnd(100 + index, "abcdefg");
      sent.push(message);
      for (let at = 0; at < message.length - 60; at += 60) send(message.slice(at, at + 60), 0);
      send(message.slice(Math.max(0, Math.ceil((message.length - 60) / 60) * 60)));
    }
    assert.deepEqual(drain(host), sent);
  });

  it("are acknowledged when the host socket has them whole, and not before", () => {
    connect();
    const told = (): number => {
      rig.guest({ type, op: Op.CREDIT_REQUEST });
      return rig.take().at(-1)?.header.fwdCnt ?? -1;
    };
    send(Buffer.alloc(1000), 0);
    assert.equal(told(), 0);
    send(Buffer.alloc(234));
    assert.equal(told(), 1234);
  });

  it("of any lengths and cuts come out as they went in", () => {
    const script = fc.array(
      fc.record({ bytes: fc.oneof(fc.nat(20), fc.nat(3000)), cut: fc.integer({ min: 1, max: 900 }) }),
      { maxLength: 60 },
    );
    fc.assert(
      fc.property(script, fc.constantFrom(2304, 4096, 16_384), (steps, sendBuffer) => {
        rig.endpoints.sendBufferBytes = sendBuffer;
        const srcPort = 2000 + rig.endpoints.accepted.length;
        const host = connect({ srcPort });
        const sent: string[] = [];
        const received: string[] = [];
        for (const [index, { bytes, cut }] of steps.entries()) {
          const message = `${index}`.padEnd(bytes, "x");
          sent.push(message);
          for (let at = 0; ; at += cut) {
            const flags = at + cut >= message.length ? EOM : 0;
            rig.guest({ type, srcPort, op: Op.RW, flags }, message.slice(at, at + cut));
            if (flags !== 0) break;
          }
          // Credit: the guest has a few KiB, so the program reads now and then.
          if (index % 3 === 0) received.push(...drain(host));
          if (rig.heard().includes("RST")) return false;
        }
        received.push(...drain(host));
        assert.deepEqual(received, sent);
        return true;
      }),
      { numRuns: 40 },
    );
  });
});

describe("a guest that breaks the rules of messages", () => {
  it("and sends beyond its credit without ending a message is reset, and what was kept is given back", () => {
    const host = narrow();
    send(Buffer.alloc(8000), 0);
    assert.deepEqual(rig.heard(), []);
    send(Buffer.alloc(1000), 0);
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.equal(host.condition, "end");
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("and ends its direction within a message is reset", () => {
    const host = connect();
    send("whole");
    send("half", 0);
    rig.guest({ type, op: Op.SHUTDOWN, flags: Shutdown.SEND });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.deepEqual(messages(host), ["whole"]);
    assert.equal(host.condition, "end");
    assert.match(rig.records.at(-1)?.message ?? "", /within a message/);
  });

  it("and goes away within a message leaves the whole ones behind, and nothing of the half", () => {
    const host = narrow();
    for (let index = 0; index < 6; index++) send(`${index}`.padEnd(1200, "."));
    send("half", 0);
    rig.guest({ type, op: Op.RST });
    assert.deepEqual(
      drain(host).map((message) => message[0]),
      ["0", "1", "2", "3", "4", "5"],
    );
    assert.equal(host.condition, "end");
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("and floods it with empty ones is reset before they take more memory than credit allows", () => {
    narrow();
    let sent = 0;
    while (rig.heard().length === 0 && sent < 20_000) {
      send("");
      sent++;
    }
    assert.ok(sent > MOST_EMPTY_MESSAGES && sent < 2 * MOST_EMPTY_MESSAGES + 8192, `${sent} were taken`);
    assert.match(rig.records.at(-1)?.message ?? "", /empty messages/);
  });

  it("and sends packets of the wrong type gets each answered, and its connection goes on", () => {
    const host = connect();
    rig.guest({ type: SocketType.STREAM, op: Op.RW }, "stream");
    const [answer, ...others] = rig.take();
    assert.deepEqual([answer.header.op, answer.header.type, others.length], [Op.RST, SocketType.STREAM, 0]);
    send("message");
    assert.deepEqual(messages(host), ["message"]);
  });
});

describe("the type", () => {
  it("does not exist for a driver that has not acknowledged it", () => {
    rig.vsock.seqpacket = false;
    rig.guest({ type, op: Op.REQUEST });
    const [answer] = rig.take();
    assert.deepEqual([answer.header.op, answer.header.type], [Op.RST, type]);
    assert.equal(rig.endpoints.calls, 0);
  });

  it("is that of every packet of the connection, of its end as well", () => {
    const host = connect();
    rig.guest({ type, op: Op.CREDIT_REQUEST });
    host.write("x");
    rig.settle();
    rig.guest({ type, op: Op.SHUTDOWN, flags: Shutdown.BOTH });
    const sent = rig.take();
    assert.deepEqual(
      sent.map(({ header }) => [header.op, header.type]),
      [
        [Op.CREDIT_UPDATE, type],
        [Op.RW, type],
        [Op.RST, type],
      ],
    );
  });

  it("that the listener is not of is refused with a reset and a line that says so", () => {
    rig.endpoints.failure = -errno.EPROTOTYPE;
    rig.guest({ type, op: Op.REQUEST });
    assert.deepEqual(rig.heard(), ["RST"]);
    assert.match(rig.records.at(-1)?.message ?? "", /another type/);
  });
});

it("a host program that reads no more lets its own messages through, and then the guest is reset", () => {
  const host = connect();
  host.write("last words");
  host.endReading();
  send("lost");
  assert.deepEqual(rig.heard().sort(), ["RW 10 EOM", `SHUTDOWN ${Shutdown.RECEIVE}`]);
  host.endWriting();
  rig.settle();
  assert.deepEqual(rig.heard(), ["RST"]);
});

it("a seqpacket connection takes of the total no more than its socket can use, and gives it back", () => {
  const whole = rig.guestConnects({ srcPort: 1 });
  for (let index = 0; index < 5000; index++) {
    rig.guest({ type, op: Op.REQUEST, srcPort: 2 });
    rig.guest({ type, op: Op.RST, srcPort: 2 });
    rig.endpoints.accepted.pop()?.close();
  }
  rig.take();
  rig.guest({ type, op: Op.REQUEST, srcPort: 2 });
  assert.equal(rig.take()[0].header.bufAlloc, USUAL_LONGEST);
  assert.equal(whole.condition, "open");
});
