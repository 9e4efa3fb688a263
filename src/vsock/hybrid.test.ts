import assert from "node:assert/strict";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EPOLLIN } from "../linux/epoll.js";
import { errno } from "../linux/errors.js";
import { createEventfd } from "../linux/eventfd.js";
import { acceptUnix, connectUnix, createSocket, listenUnix } from "../linux/unix-socket.js";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { LONGEST_LINE_BYTES } from "./handshake.js";
import { Op } from "./header.js";
import { HybridEndpoints } from "./hybrid-endpoints.js";
import { HybridListener } from "./hybrid-listener.js";
import { HostEnd, openDescriptors, SwitchRig } from "./switch-rig.js";

const HANDSHAKE_TIMEOUT_MS = 10_000;

let directory: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bit33-"));
});

afterEach(() => rmSync(directory, { recursive: true }));

describe("host endpoints", () => {
  it("connect to whatever listens on <uds-path>_<port>", () => {
    const path = join(directory, "vm.vsock");
    const listener = listenUnix(`${path}_4294967294`);
    const endpoints = new HybridEndpoints(path);
    const ours = endpoints.connect(4294967294);
    const theirs = acceptUnix(listener);
    assert.ok(ours >= 0 && theirs >= 0);
    new HostEnd(ours).write("through");
    assert.equal(new HostEnd(theirs).readAll().toString(), "through");
    for (const fd of [listener, ours, theirs]) closeSync(fd);
  });

  it("say why there is no connection, and leave no descriptor behind", () => {
    const before = openDescriptors();
    const path = join(directory, "vm.vsock");
    const endpoints = new HybridEndpoints(path);
    assert.equal(endpoints.connect(1), -errno.ENOENT);
    closeSync(listenUnix(`${path}_2`));
    assert.equal(endpoints.connect(2), -errno.ECONNREFUSED);
    const full = listenUnix(`${path}_3`, { backlog: 0 });
    const first = endpoints.connect(3);
    assert.ok(first >= 0);
    assert.equal(endpoints.connect(3), -errno.EAGAIN);
    const frugal = new HybridEndpoints(path, first);
    assert.equal(frugal.connect(3), -errno.EMFILE);
    closeSync(first);
    closeSync(full);
    assert.equal(openDescriptors(), before);
  });
});

describe("the hybrid listener", () => {
  let rig: SwitchRig;
  let listener: HybridListener;
  let records: LogRecord[];
  let atStart: number;
  let path: string;

  beforeEach(() => {
    atStart = openDescriptors();
    path = join(directory, "vm.vsock");
    rig = new SwitchRig();
    records = [];
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 4,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    });
  });

  afterEach(() => {
    listener.close();
    rig.close();
    assert.equal(openDescriptors(), atStart, "descriptors are left open");
  });

  function client(text = ""): HostEnd {
    const host = new HostEnd(createSocket());
    assert.equal(connectUnix(host.fd, path), 0);
    if (text !== "") host.write(text);
    rig.settle();
    return host;
  }

  /** Lets the guest accept what was last asked of it; returns the assigned host port. */
  function accept(srcPort: number): number {
    const [{ header }] = rig.take();
    assert.deepEqual([header.op, header.dstPort], [Op.REQUEST, srcPort]);
    rig.guest({ op: Op.RESPONSE, srcPort, dstPort: header.srcPort });
    return header.srcPort;
  }

  it("answers OK and the assigned port once the guest has accepted, and not before", () => {
    const host = client("CONNECT 80\n");
    assert.equal(host.condition, "open");
    const port = accept(80);
    assert.equal(host.readAll().toString(), `OK ${port}\n`);
    host.write("GET /");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 5"]);
    host.close();
    rig.settle();
  });

  it("takes the line split at every byte, and passes on what follows it in the same write", () => {
    const text = "connect 80\nearly data";
    for (let split = 1; split < text.length; split++) {
      const host = client(text.slice(0, split));
      host.write(text.slice(split));
      rig.settle();
      accept(80);
      assert.equal(
        Buffer.concat(rig.take().map(({ payload }) => payload)).toString(),
        "early data",
        `split after ${split} bytes`,
      );
      host.close();
      rig.settle();
      rig.vsock.reset("the next one");
      rig.take();
    }
  });

  it("takes a line that comes byte by byte after the client was accepted", () => {
    const host = client();
    for (const byte of "CONNECT 80\n") {
      assert.deepEqual(rig.heard(), []);
      host.write(byte);
      rig.settle();
    }
    const port = accept(80);
    assert.equal(host.readAll().toString(), `OK ${port}\n`);
    host.write("afterwards");
    rig.settle();
    assert.deepEqual(rig.heard(), ["RW 10"]);
    host.close();
  });

  it("passes on what follows the longest line, whether it is there when the client is accepted or comes later", () => {
    const line = `${"CONNECT 80".padEnd(LONGEST_LINE_BYTES - 1)}\n`;
    for (const first of ["", "CONN", `${line}behind it`]) {
      const host = client(first);
      host.write(`${line}behind it`.slice(first.length));
      rig.settle();
      const port = accept(80);
      assert.deepEqual(
        rig.take().map(({ payload }) => payload.toString()),
        ["behind it"],
        `accepted with ${first.length} bytes`,
      );
      host.close();
      rig.settle();
      rig.guest({ op: Op.RST, srcPort: 80, dstPort: port });
      rig.take();
    }
  });

  it("notices the end of a client that half-closes together with its line", () => {
    const host = client();
    host.write("CONNECT 80\nlast words");
    host.endWriting();
    rig.settle();
    const port = accept(80);
    assert.deepEqual(rig.heard(), ["RW 10", "SHUTDOWN 2"]);
    assert.equal(host.readAll().toString(), `OK ${port}\n`);
    host.close();
  });

  it("asks the guest for nothing when the client leaves together with its line", () => {
    const host = client();
    host.write("CONNECT 80\nlast words");
    host.close();
    rig.settle();
    assert.deepEqual(rig.heard(), []);
    assert.match(records[0].message, /guest port 80: the host program closed its socket before/);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("withdraws the request of a client that left before it was accepted", () => {
    const host = new HostEnd(createSocket());
    connectUnix(host.fd, path);
    host.write("CONNECT 80\n");
    host.close();
    rig.settle();
    assert.deepEqual(rig.heard(), ["REQUEST", "RST"]);
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("closes a client that was awaited and finds no room", () => {
    listener.close();
    rig.close();
    rig = new SwitchRig({ maxConnections: 1 });
    path = join(directory, "small.vsock");
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 4,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    });
    const [first, second] = [client(), client()];
    for (const host of [first, second]) host.write("CONNECT 80\n");
    rig.settle();
    assert.deepEqual([first.condition, second.condition].sort(), ["end", "open"]);
    assert.match(records[0].message, /guest port 80: the guest has 1 connections, which is the limit/);
    for (const host of [first, second]) host.close();
    rig.settle();
  });

  it("takes a line whose client has half-closed behind it", () => {
    const host = new HostEnd(createSocket());
    connectUnix(host.fd, path);
    host.write("CONNECT 80\nquestion");
    host.endWriting();
    rig.settle();
    const port = accept(80);
    assert.deepEqual(rig.heard(), ["RW 8", "SHUTDOWN 2"]);
    rig.guest({ op: Op.RW, srcPort: 80, dstPort: port }, "answer");
    assert.equal(host.readAll().toString(), `OK ${port}\nanswer`);
    host.close();
  });

  it("closes a client whose line is wrong, with a reason in the log", () => {
    for (const text of ["GET / HTTP/1.1\r\n\r\n", "CONNECT 4294967295\n", "x".repeat(64)]) {
      const host = client(text);
      assert.notEqual(host.condition, "open");
      host.close();
    }
    assert.deepEqual(
      records.map(({ event }) => event),
      Array(3).fill("handshake-failed"),
    );
    assert.match(records[0].message, /expected "CONNECT <port>", got "GET/);
  });

  it("closes a client at once that leaves half-way", () => {
    for (const text of ["", "CONN", "CONNECT 80"]) {
      client(text).close();
      rig.settle();
    }
    assert.equal(records.length, 3);
    assert.ok(records.every(({ message }) => /the client left after/.test(message)));
    assert.deepEqual(rig.heard(), []);
  });

  it("closes a client that does not finish its line in time", () => {
    const host = client("CONNECT ");
    rig.pass(HANDSHAKE_TIMEOUT_MS - 1, 1000);
    assert.equal(host.condition, "open");
    rig.pass(1);
    assert.notEqual(host.condition, "open");
    host.close();
  });

  it("closes a client with a reason in the log when the guest refuses, or does not answer", () => {
    const refused = client("CONNECT 80\n");
    rig.guest({ op: Op.RST, srcPort: 80, dstPort: rig.take()[0].header.srcPort });
    assert.equal(refused.condition, "end");
    const unanswered = client("CONNECT 81\n");
    rig.pass(2000, 100);
    assert.equal(unanswered.condition, "end");
    assert.deepEqual(
      records.map(({ event, message }) => [event, message]),
      [
        ["host-connect-failed", "guest port 80: the guest refused it: nothing listens on that port"],
        ["host-connect-failed", "guest port 81: the guest did not answer within 2000 ms"],
      ],
    );
    refused.close();
    unanswered.close();
  });

  it("keeps so many clients without a line and no more, and none of them for ever", () => {
    const idle = Array.from({ length: 4 }, () => client("C"));
    const fifth = client("C");
    assert.notEqual(fifth.condition, "open");
    assert.match(records[0].message, /4 clients have not sent their line/);
    idle[0].write("ONNECT 80\n");
    rig.settle();
    const sixth = client("C");
    assert.equal(sixth.condition, "open");
    assert.deepEqual(rig.heard(), ["REQUEST"]);
    for (const host of [...idle, fifth, sixth]) host.close();
    rig.settle();
  });

  it("takes a client that brings its line, however many others have not sent theirs", () => {
    const idle = Array.from({ length: 4 }, () => client("C"));
    const quick = client("CONNECT 81\n");
    assert.deepEqual(rig.heard(), ["REQUEST"]);
    assert.deepEqual(records, []);
    for (const host of [...idle, quick]) host.close();
    rig.settle();
  });

  it("turns clients away whose descriptors are left for others", () => {
    listener.close();
    path = join(directory, "frugal.vsock");
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 256,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
      descriptorCeiling: 0,
    });
    const host = client("CONNECT 80\n");
    assert.notEqual(host.condition, "open");
    assert.deepEqual(rig.heard(), []);
    assert.match(records[0].message, /no more descriptors for connections/);
    host.close();
  });

  it("takes a client where descriptors of connections that have just ended leave room for it", () => {
    listener.close();
    path = join(directory, "again.vsock");
    const ended = createEventfd();
    const token = rig.loop.watch(ended, EPOLLIN, { onEvents() {} });
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 256,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
      descriptorCeiling: ended + 1,
    });
    const host = new HostEnd(createSocket());
    assert.equal(connectUnix(host.fd, path), 0);
    rig.loop.unwatchAndClose(ended, token);
    host.write("CONNECT 80\n");
    rig.settle();
    assert.deepEqual(rig.heard(), ["REQUEST"]);
    assert.deepEqual(records, []);
    host.close();
  });

  it("takes forty clients at once, each with its own port, bytes and end", () => {
    listener.close();
    path = join(directory, "forty.vsock");
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(path),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 40,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    });
    const hosts = Array.from({ length: 40 }, (_, index) => {
      const host = new HostEnd(createSocket());
      assert.equal(connectUnix(host.fd, path), 0);
      // One third brings its line, one third sends it later, and one third half of it.
      if (index % 3 === 0) host.write(`CONNECT ${index}\n${index}`);
      if (index % 3 === 2) host.write("CONN");
      return host;
    });
    rig.settle();
    for (const [index, host] of hosts.entries()) {
      if (index % 3 === 1) host.write(`CONNECT ${index}\n${index}`);
      if (index % 3 === 2) host.write(`ECT ${index}\n${index}`);
    }
    rig.settle();
    const asked = rig.take().map(({ header }) => header);
    assert.deepEqual(
      asked.map(({ dstPort }) => dstPort).sort((a, b) => a - b),
      [...hosts.keys()],
    );
    for (const { srcPort, dstPort } of asked) {
      rig.guest({ op: Op.RESPONSE, srcPort: dstPort, dstPort: srcPort });
      assert.equal(hosts[dstPort].readAll().toString(), `OK ${srcPort}\n`);
      const [{ header, payload }] = rig.take();
      assert.deepEqual([header.dstPort, payload.toString()], [dstPort, `${dstPort}`]);
    }
    for (const host of hosts) host.close();
    rig.settle();
    assert.deepEqual(rig.heard(), Array(40).fill("SHUTDOWN 3"));
    for (const { srcPort, dstPort } of asked) rig.guest({ op: Op.RST, srcPort: dstPort, dstPort: srcPort });
    assert.equal(rig.vsock.connectionCount, 0);
  });

  it("takes a storm of clients, more than it accepts at once", () => {
    listener.close();
    listener = new HybridListener({
      loop: rig.loop,
      fd: listenUnix(join(directory, "storm.vsock")),
      connector: rig.vsock,
      log: createLogger({ level: "debug", sink: (record) => records.push(record) }),
      mostClients: 256,
      handshakeTimeoutMs: HANDSHAKE_TIMEOUT_MS,
    });
    path = join(directory, "storm.vsock");
    const hosts = Array.from({ length: 200 }, () => {
      const host = new HostEnd(createSocket());
      assert.equal(connectUnix(host.fd, path), 0);
      host.write("CONNECT 80\n");
      return host;
    });
    for (let turn = 0; turn < 10; turn++) rig.settle();
    assert.equal(rig.vsock.connectionCount, 200);
    for (const host of hosts) host.close();
  });
});
