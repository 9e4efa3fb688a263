/**
 * The library with real guests: its sockets behave as any `net.Socket`, its events say how the guest fares, and its end
 * leaves nothing behind.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer as createHttpServer, request } from "node:http";
import { connect, createServer, Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ConfigError, createVsockDevice, StartError, type VsockDevice, VsockError } from "../../src/index.js";
import { socketPair } from "../../src/linux/unix-socket.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { openDescriptors } from "../../src/vsock/switch-rig.js";
import { assertSame, noise, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

let folder: string;
let device: VsockDevice;
const machines = new Set<VirtualMachine>();

function boot(name = "vm3.sock"): VirtualMachine {
  const profile = builtinVmm("qemu-7.2");
  const machine = new VirtualMachine({
    profile,
    socketPath: join(folder, name),
    platform: { kind: "direct" },
  });
  machines.add(machine);
  return machine;
}

function off(machine: VirtualMachine, how: "close" | "kill" = "close"): void {
  if (machines.delete(machine)) machine[how]();
}

/** A code that an error has. */
const code = (expected: string) => (error: unknown) => {
  assert.ok(error instanceof Error && "code" in error);
  assert.equal(error.code, expected, error.message);
  return true;
};

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "bit33-library-"));
});

afterEach(async () => {
  for (const machine of [...machines]) off(machine);
  rmSync(folder, { recursive: true, force: true });
});

describe("a device of the library", { timeout: SUITE_TIMEOUT_MS }, () => {
  beforeEach(async () => {
    device = await createVsockDevice({ socketPath: join(folder, "vm3.sock"), connectTimeoutMs: 300 });
  });
  afterEach(() => device.close());

  it("gives the guest's connections as net.Sockets", async () => {
    const sockets: Socket[] = [];
    const listener = await device.listen(5000, (socket) => sockets.push(socket));
    const guest = await boot().driver.connect(5000);
    await guest.write(Buffer.from("hello"));
    guest.shutdown(2);
    while (sockets.length === 0) await once(listener, "connection");
    const [socket] = sockets;
    assert.ok(socket instanceof Socket);
    socket.write("good day");
    assert.equal((await readToEnd(socket)).toString(), "hello");
    assert.equal(Buffer.from(await guest.readToEnd()).toString(), "good day");
    await guest.close();
    if (!socket.closed) await once(socket, "close");
  });

  it("connects to the guest's ports, and moves megabytes both ways at once", async () => {
    const machine = boot();
    const listening = machine.driver.listen(80);
    const [socket, guest] = await Promise.all([
      device.connect(80, { allowHalfOpen: true }),
      listening.accept(),
    ]);
    const [toGuest, toHost] = [noise(3_000_000), noise(3_000_000)];
    const sent = guest.write(toHost).then(() => guest.shutdown(2));
    socket.end(toGuest);
    const [atHost, atGuest] = await Promise.all([readToEnd(socket), guest.readToEnd(), sent]);
    assertSame(atHost, toHost, "at the host");
    assertSame(Buffer.from(atGuest), toGuest, "at the guest");
    await guest.close();
  });

  it("tells a writer to wait while the guest does not read, and that it may go on", async () => {
    const machine = boot();
    const listening = machine.driver.listen(80);
    const [socket, guest] = await Promise.all([device.connect(80), listening.accept()]);
    let written = 0;
    while (socket.write(Buffer.alloc(64 * 1024)) || written < 4_000_000) written += 64 * 1024;
    assert.ok(socket.writableNeedDrain);
    const reading = guest.readToEnd();
    await once(socket, "drain");
    socket.end();
    assert.ok((await reading).length >= written);
    await guest.close();
  });

  it("ends its own direction with the guest's, unless allowHalfOpen is asked for", async () => {
    const machine = boot();
    for (const allowHalfOpen of [false, true]) {
      const listener = await device.listen(5000, { allowHalfOpen });
      const connection = once(listener, "connection");
      const guest = await machine.driver.connect(5000);
      const [socket] = await connection;
      guest.shutdown(2);
      socket.resume();
      await once(socket, "end");
      if (allowHalfOpen) {
        assert.ok(socket.writable);
        socket.end("still here");
      }
      const expected = allowHalfOpen ? "still here" : "";
      assert.equal(Buffer.from(await guest.readToEnd()).toString(), expected);
      await guest.close();
      listener.close();
    }
  });

  it("gives a reset by the guest as an ECONNRESET error, behind everything that came before", async () => {
    const machine = boot();
    for (let round = 0; round < 20; round++) {
      const listener = await device.listen(5000);
      const connection = once(listener, "connection");
      const guest = await machine.driver.connect(5000);
      const [socket] = await connection;
      const chunks: Buffer[] = [];
      socket.on("data", (chunk: Buffer) => chunks.push(chunk));
      socket.on("end", () => assert.fail("it looked like an orderly end"));
      await guest.write(Buffer.from("the last words"));
      guest.reset();
      const [error] = await once(socket, "error");
      assert.equal(error.code, "ECONNRESET");
      assert.equal(Buffer.concat(chunks).toString(), "the last words");
      if (!socket.closed) await once(socket, "close");
      listener.close();
    }
  });

  it("lets the guest see a destroyed socket as an end or a reset", async () => {
    const machine = boot();
    const listening = machine.driver.listen(80);
    const [socket, guest] = await Promise.all([device.connect(80), listening.accept()]);
    socket.destroy();
    assert.equal(await guest.read(), undefined);
    await guest.close();
  });

  it("serves HTTP to the guest through an http.Server", async () => {
    const http = createHttpServer((incoming, response) => {
      response.end(`you asked for ${incoming.url}`);
    });
    await device.listen(80, (socket) => http.emit("connection", socket));
    const guest = await boot().driver.connect(80);
    await guest.write(Buffer.from("GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    assert.match(
      Buffer.from(await guest.readToEnd()).toString(),
      /^HTTP\/1\.1 200 OK[\s\S]*you asked for \/a/,
    );
    await guest.close();
  });

  it("asks an HTTP server in the guest", async () => {
    const listening = boot().driver.listen(80);
    const socket = await device.connect(80);
    const asked = request({ createConnection: () => socket, path: "/b" }).end();
    const guest = await listening.accept();
    assert.match(Buffer.from((await guest.read()) ?? []).toString(), /^GET \/b HTTP/);
    await guest.write(Buffer.from("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    const [response] = await once(asked, "response");
    assert.equal((await response.toArray()).join(""), "ok");
    socket.destroy();
    await guest.close();
  });

  it("refuses what the guest asks of a port on which nobody listens, or listens no more", async () => {
    const machine = boot();
    await assert.rejects(machine.driver.connect(5000), code("ECONNRESET"));
    const listener = await device.listen(5000);
    listener.close();
    listener.close();
    await sleep(20);
    await assert.rejects(machine.driver.connect(5000), code("ECONNRESET"));
    assert.equal(listener.listening, false);
    await device.listen(5000);
  });

  it("closes a connection that nobody handles", async () => {
    await device.listen(5000);
    const guest = await boot().driver.connect(5000);
    assert.equal(await guest.read(), undefined);
    await guest.close();
  });

  it("says by its code why a connection to the guest did not come about", async () => {
    await assert.rejects(device.connect(80), code("ETIMEDOUT"));
    boot();
    await device.whenUp();
    await assert.rejects(device.connect(80), (error) => error instanceof VsockError && error.port === 80);
    await assert.rejects(device.connect(80), code("ECONNREFUSED"));
    await assert.rejects(device.connect(-1), RangeError);
    await assert.rejects(device.connect(0xffff_ffff), RangeError);
    await assert.rejects(device.listen(1.5), RangeError);
    await device.listen(9);
    await assert.rejects(device.listen(9), code("EADDRINUSE"));
  });

  it("gives an attempt up when its signal is aborted", async () => {
    const abort = new AbortController();
    const attempt = device.connect(80, { signal: abort.signal });
    abort.abort(new Error("not needed any more"));
    await assert.rejects(attempt, /not needed any more/);
    await assert.rejects(device.connect(80, { signal: abort.signal }), /not needed any more/);
  });

  it("tells when the guest comes, starts anew and goes", async () => {
    const events: string[] = [];
    device.on("up", () => events.push("up"));
    device.on("reset", () => events.push("reset"));
    device.on("down", () => events.push("down"));
    for (const how of ["close", "kill"] as const) {
      const machine = boot();
      await device.whenUp();
      assert.equal(device.isUp, true);
      off(machine, how);
      await once(device, "down");
      assert.equal(device.isUp, false);
    }
    assert.deepEqual(events, ["up", "down", "up", "down"]);
  });

  it("cuts every socket when the guest goes", async () => {
    const machine = boot();
    const listening = machine.driver.listen(80);
    const [socket] = await Promise.all([device.connect(80), listening.accept()]);
    socket.resume();
    off(machine, "kill");
    const [error] = await once(socket, "error");
    assert.equal(error.code, "ECONNRESET");
  });

  it("throws what a listener throws, and goes on", async () => {
    const machine = boot();
    let calls = 0;
    const sockets: Socket[] = [];
    await device.listen(5000, (socket) => {
      sockets.push(socket);
      if (calls++ === 0) throw new Error("the program's own mistake");
    });
    // Before the test runner sees it, which takes it for a failure.
    const caught = new Promise<Error>((resolve) => process.setUncaughtExceptionCaptureCallback(resolve));
    const guests = await Promise.all([machine.driver.connect(5000), machine.driver.connect(5000)]);
    assert.match((await caught).message, /own mistake/);
    process.setUncaughtExceptionCaptureCallback(null);
    while (sockets.length < 2) await sleep(2);
    for (const socket of sockets) socket.destroy();
    for (const guest of guests) await guest.close();
  });
});

describe("the end of a device", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("destroys sockets, closes listeners, and leaves neither files nor descriptors", async () => {
    const profile = { socketPath: join(folder, "vm3.sock"), udsPath: join(folder, "vm3.vsock") };
    // Whatever is made once for a process is made before anything is counted.
    await (await createVsockDevice(profile)).close();
    const before = openDescriptors();
    for (let round = 0; round < 3; round++) {
      device = await createVsockDevice(profile);
      assert.ok(existsSync(profile.udsPath));
      const listener = await device.listen(5000);
      const connection = once(listener, "connection");
      const machine = boot();
      const guest = await machine.driver.connect(5000);
      const [socket] = await connection;
      const pending = assert.rejects(device.connect(80), VsockError);
      await device.whenUp();
      const closed = once(device, "close");
      const isListening = once(listener, "close");
      await Promise.all([device.close(), device.close()]);
      await Promise.all([closed, isListening, pending]);
      assert.ok(socket.destroyed);
      assert.equal(device.closed, true);
      assert.deepEqual(readdirSync(folder), []);
      await assert.rejects(device.connect(80), code("ERR_DEVICE_CLOSED"));
      await assert.rejects(device.listen(80), code("ERR_DEVICE_CLOSED"));
      await assert.rejects(device.whenUp(), code("ERR_DEVICE_CLOSED"));
      guest.reset();
      off(machine, "kill");
    }
    assert.equal(openDescriptors(), before);
  });

  it("comes by itself when the VMM on an inherited socket leaves", async () => {
    const [ours, theirs] = socketPair();
    device = await createVsockDevice({ fd: ours });
    const closed = once(device, "close");
    new Socket({ fd: theirs }).destroy();
    assert.deepEqual(await closed, []);
  });
});

describe("a device of the library with udsPath", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("leads ports that nobody here listens on to <udsPath>_<port>, and lets other programs in", async () => {
    const udsPath = join(folder, "vm3.vsock");
    device = await createVsockDevice({ socketPath: join(folder, "vm3.sock"), udsPath });
    await device.listen(5000, (socket) => socket.end("from this process"));
    const other = createServer((socket) => socket.end("from another")).listen(`${udsPath}_6000`);
    await once(other, "listening");
    const machine = boot();
    for (const [port, expected] of [
      [5000, "from this process"],
      [6000, "from another"],
    ] as const) {
      const guest = await machine.driver.connect(port);
      assert.equal(Buffer.from(await guest.readToEnd()).toString(), expected);
      await guest.close();
    }
    await assert.rejects(machine.driver.connectSeqpacket(5000), code("ECONNRESET"));
    const listening = machine.driver.listen(80);
    const client = connect(udsPath);
    client.write("CONNECT 80\n");
    const guest = await listening.accept();
    await guest.write(Buffer.from("hello"));
    await guest.close();
    assert.match((await readToEnd(client)).toString(), /^OK \d+\nhello$/);
    other.close();
    await device.close();
    assert.deepEqual(readdirSync(folder), []);
  });
});

describe("several devices in one process", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("serve each its own guest on the same ports", async () => {
    const cids = [3, 4, 5, 6];
    const devices = await Promise.all(
      cids.map((guestCid) => createVsockDevice({ guestCid, socketPath: join(folder, `vm${guestCid}.sock`) })),
    );
    for (const each of devices)
      await each.listen(80, (socket) => {
        socket.end(`for ${each.guestCid}`);
      });
    for (const cid of cids) {
      const guest = await boot(`vm${cid}.sock`).driver.connect(80);
      assert.equal(Buffer.from(await guest.readToEnd()).toString(), `for ${cid}`);
      await guest.close();
    }
    await Promise.all(devices.map((each) => each.close()));
  });
});

describe("wrong options", () => {
  const where = (expected: string) => (error: unknown) => {
    assert.ok(error instanceof ConfigError || error instanceof StartError);
    assert.equal(error.where, expected, error.message);
    return true;
  };

  it("are named", async () => {
    const socketPath = join(folder, "vm3.sock");
    await assert.rejects(createVsockDevice({}), where("socketPath"));
    await assert.rejects(createVsockDevice({ socketPath, fd: 3 }), where("socketPath"));
    await assert.rejects(createVsockDevice({ fd: -1 }), where("fd"));
    await assert.rejects(createVsockDevice({ fd: 999 }), where("fd"));
    await assert.rejects(createVsockDevice({ socketPath, guestCid: 2 }), where("guestCid"));
    await assert.rejects(createVsockDevice({ socketPath, maxConnections: 0 }), where("maxConnections"));
    await assert.rejects(createVsockDevice({ socketPath, udsPath: socketPath }), where("udsPath"));
    const nowhere = join(folder, "none", "vm3.sock");
    await assert.rejects(createVsockDevice({ socketPath: nowhere }), where("socketPath"));
    assert.deepEqual(readdirSync(folder), []);
  });

  it("are named where no compiler has looked: no such option, or a value of another kind", async () => {
    const socketPath = join(folder, "vm3.sock");
    const refuses = async (wrong: object, expected: string, says: RegExp): Promise<void> => {
      // As a program in JavaScript calls it.
      const attempt: Promise<unknown> = Reflect.apply(createVsockDevice, undefined, [
        { socketPath, ...wrong },
      ]);
      await assert.rejects(attempt, (error) => where(expected)(error) && says.test(String(error)));
    };
    await assert.rejects(Reflect.apply(createVsockDevice, undefined, []), where("options"));
    await refuses({ maxConections: 5 }, "maxConections", /did you mean maxConnections\?/);
    await refuses({ groups: ["a"] }, "groups", /no such option/);
    await refuses({ toString: 1 }, "toString", /no such option/);
    await refuses({ iotlb: "ON" }, "iotlb", /'ON' cannot be used; give auto, on, off, explicit/);
    await refuses({ accessPlatform: "off" }, "accessPlatform", /give a boolean/);
    await refuses({ maxConnections: "5" }, "maxConnections", /give a number/);
    await refuses({ udsPath: 5 }, "udsPath", /give a string/);
    await refuses({ log: 5 }, "log", /give a function/);
    await refuses({ logLevel: "loud" }, "logLevel", /give error, warn, info, debug/);
    await refuses({ udsMode: 70_000 }, "udsMode", /no mode/);
    await refuses({ udsGroup: -1 }, "udsGroup", /no group/);
    assert.deepEqual(readdirSync(folder), []);
  });

  it("are totals of buffers and probations out of their ranges, and others are taken", async () => {
    const socketPath = join(folder, "vm3.sock");
    await assert.rejects(createVsockDevice({ socketPath, totalBufferBytes: 1 }), where("totalBufferBytes"));
    await assert.rejects(createVsockDevice({ socketPath, probationMs: -1 }), where("probationMs"));
    const device = await createVsockDevice({ socketPath, totalBufferBytes: 1 << 20, probationMs: 10 });
    await device.close();
  });
});
