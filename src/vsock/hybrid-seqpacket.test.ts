import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { errno } from "../linux/errors.js";
import { END_OF_MESSAGES, peekMessage } from "../linux/seqpacket.js";
import { acceptUnix, connectUnix, createSocket, listenUnix, SOCK_SEQPACKET } from "../linux/unix-socket.js";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { LONGEST_LINE_BYTES } from "./handshake.js";
import { MessageEnd, Op, SocketType } from "./header.js";
import { HybridEndpoints } from "./hybrid-endpoints.js";
import { HybridListener } from "./hybrid-listener.js";
import { HostEnd, openDescriptors, SwitchRig } from "./switch-rig.js";

const type = SocketType.SEQPACKET;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bit33-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

it("a host port is of the type of its listener's socket, and the other type is refused", () => {
  const before = openDescriptors();
  const path = join(directory, "vm.vsock");
  const messages = listenUnix(`${path}_1`, { type: SOCK_SEQPACKET });
  const streams = listenUnix(`${path}_2`);
  const endpoints = new HybridEndpoints(path);
  assert.equal(endpoints.connect(1, SocketType.STREAM), -errno.EPROTOTYPE);
  assert.equal(endpoints.connect(2, type), -errno.EPROTOTYPE);
  const ours = new HostEnd(endpoints.connect(1, type));
  const theirs = new HostEnd(acceptUnix(messages));
  ours.write("one");
  ours.write("two");
  assert.deepEqual([`${theirs.read()}`, `${theirs.read()}`], ["one", "two"]);
  for (const fd of [messages, streams, ours.fd, theirs.fd]) closeSync(fd);
  assert.equal(openDescriptors(), before);
});

describe("the seqpacket listener", () => {
  let rig: SwitchRig;
  let listener: HybridListener;
  let records: LogRecord[];
  let atStart: number;
  let path: string;

  beforeEach(() => {
    atStart = openDescriptors();
    path = join(directory, "vm.vsock_seqpacket");
    rig = new SwitchRig();
    rig.vsock.seqpacket = true;
    records = [];
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path, { type: SOCK_SEQPACKET }),
      type,
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 4,
      handshakeTimeoutMs: 1000,
    });
  });

  afterEach(() => {
    listener.close();
    rig.close();
    assert.equal(openDescriptors(), atStart, "descriptors are left open");
  });

  function client(...messages: string[]): HostEnd {
    const host = new HostEnd(createSocket(SOCK_SEQPACKET));
    assert.equal(connectUnix(host.fd, path), 0);
    for (const message of messages) host.write(message);
    rig.settle();
    return host;
  }

  /** Lets the guest accept what was last asked of it; returns the assigned host port. */
  function accept(): number {
    const [{ header }] = rig.take();
    assert.deepEqual([header.op, header.type, header.dstPort], [Op.REQUEST, type, 80]);
    rig.guest({ type, op: Op.RESPONSE, srcPort: 80, dstPort: header.srcPort });
    return header.srcPort;
  }

  function close(host: HostEnd): void {
    host.close();
    rig.settle();
  }

  it("takes the line as a message, with its end or without, and answers in one", () => {
    for (const line of ["CONNECT 80\n", "CONNECT 80", "connect 80\r\n"]) {
      const host = client(line);
      const hostPort = accept();
      assert.equal(`${host.read()}`, `OK ${hostPort}\n`);
      host.write("hello");
      rig.settle();
      assert.deepEqual(rig.heard(), ["RW 5 EOM"]);
      rig.guest({ type, srcPort: 80, dstPort: hostPort, op: Op.RW, flags: MessageEnd.EOM }, "world");
      assert.equal(`${host.read()}`, "world");
      close(host);
      rig.take();
    }
  });

  it("takes a line that fills the longest message, with its end or without", () => {
    for (const line of [
      `${"CONNECT 80".padEnd(LONGEST_LINE_BYTES - 1)}\n`,
      "CONNECT 80".padEnd(LONGEST_LINE_BYTES),
    ]) {
      const host = client(line, "behind");
      const hostPort = accept();
      assert.equal(`${host.read()}`, `OK ${hostPort}\n`);
      assert.deepEqual(rig.heard(), ["RW 6 EOM"]);
      close(host);
      rig.take();
    }
  });

  it("passes on the messages behind the line, whether it came at once or later", () => {
    const prompt = client("CONNECT 80", "behind", "");
    accept();
    assert.deepEqual(rig.heard(), ["RW 6 EOM", "RW 0 EOM"]);
    const late = client();
    late.write("CONNECT 80");
    late.write("behind");
    rig.settle();
    accept();
    assert.deepEqual(rig.heard(), ["RW 6 EOM"]);
    for (const host of [prompt, late]) close(host);
  });

  it("turns a client away whose first message is anything else", () => {
    for (const [message, reason] of [
      ["", /expected "CONNECT <port>", got ""/],
      ["HELLO", /expected "CONNECT <port>", got "HELLO"/],
      ["CONNECT 80\nmore", /something follows the CONNECT line/],
      ["CONNECT 4294967295", /not a port/],
      ["x".repeat(65), /got one of 65 bytes/],
      ["x".repeat(64), /expected "CONNECT <port>"/],
    ] as const) {
      const host = client(message);
      assert.match(records.pop()?.message ?? "", reason);
      assert.ok(["end", "reset"].includes(host.condition));
      assert.deepEqual(rig.heard(), []);
      close(host);
    }
  });

  it("notices a client that leaves without a word", () => {
    close(client());
    assert.match(records.pop()?.message ?? "", /the client left/);
  });

  it("turns clients away while the guest has no driver for them", () => {
    rig.vsock.seqpacket = false;
    const host = client("CONNECT 80");
    assert.equal(peekMessage(host.fd), END_OF_MESSAGES);
    assert.match(records.pop()?.message ?? "", /guest port 80: no driver that has seqpacket sockets/);
    close(host);
  });
});
