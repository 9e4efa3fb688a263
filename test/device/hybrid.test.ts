/**
 * The host programs' way in (Firecracker's hybrid scheme), with real sockets and a real guest behind.
 */

import assert from "node:assert/strict";
import { once } from "node:events";
import { after, before, describe, it } from "node:test";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { noise, Rig, readExactly, readLine, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 2048;

describe("CONNECT on the hybrid socket", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  before(async () => {
    rig = await Rig.start({ connectTimeoutMs: 300 });
    machine = rig.boot();
  });
  after(() => rig.close());

  /** Sends the pieces, each once the one before has been taken, and returns what the guest got. */
  async function handshake(pieces: readonly string[]): Promise<{ answer: string; atGuest: string }> {
    const listener = machine.driver.listen(PORT);
    try {
      const socket = await rig.open();
      for (const piece of pieces) {
        await new Promise((resolve) => socket.write(piece, resolve));
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      const guest = await listener.accept();
      const answer = await readLine(socket);
      socket.end();
      const atGuest = (await guest.readToEnd()).toString();
      await guest.close();
      return { answer, atGuest };
    } finally {
      listener.close();
    }
  }

  const lines: [string, string[], string][] = [
    ["in one piece", ["CONNECT 2048\n"], ""],
    ["in lower case, as Kata sends it", ["connect 2048\n"], ""],
    ["with a carriage return", ["CONNECT 2048\r\n"], ""],
    ["byte by byte", [..."CONNECT 2048\n"], ""],
    ["split before its newline", ["CONNECT 2048", "\n"], ""],
    ["with data that follows in the same write", ["CONNECT 2048\nearly data"], "early data"],
    ["split in its middle, with data behind", ["CONN", "ECT 2048\nearly ", "data"], "early data"],
    ["with data that is another line", ["CONNECT 2048\nCONNECT 1\n"], "CONNECT 1\n"],
  ];
  for (const [name, pieces, data] of lines) {
    it(`is understood ${name}`, async () => {
      const { answer, atGuest } = await handshake(pieces);
      assert.match(answer, /^OK \d+\n$/);
      assert.equal(atGuest, data);
    });
  }

  it("brings 300 KiB of early data to the guest intact and in order", async () => {
    const listener = machine.driver.listen(PORT);
    const data = noise(300 * 1024);
    const socket = await rig.open();
    socket.write("CONNECT 2048\n");
    socket.end(data);
    const guest = await listener.accept();
    assert.equal(Buffer.compare(await guest.readToEnd(), data), 0);
    assert.match((await readLine(socket)).toString(), /^OK \d+\n$/);
    await guest.close();
    listener.close();
  });

  it("answers OK before any byte of the guest", async () => {
    const listener = machine.driver.listen(PORT);
    const socket = await rig.open();
    socket.write("CONNECT 2048\n");
    const guest = await listener.accept();
    await guest.write(Buffer.from("guest speaks first"));
    await guest.close();
    assert.match((await readToEnd(socket)).toString(), /^OK \d+\nguest speaks first$/);
    listener.close();
  });

  it("gives each connection a host port of its own", async () => {
    const listener = machine.driver.listen(PORT);
    const sockets = await Promise.all([rig.open(), rig.open(), rig.open()]);
    const answers = await Promise.all(
      sockets.map((socket) => {
        socket.write("CONNECT 2048\n");
        return readLine(socket);
      }),
    );
    assert.equal(new Set(answers).size, 3);
    const guests = await Promise.all([listener.accept(), listener.accept(), listener.accept()]);
    assert.deepEqual(guests.map(({ peerPort }) => `OK ${peerPort}\n`).sort(), [...answers].sort());
    for (const socket of sockets) socket.end();
    await Promise.all(guests.map((guest) => guest.close()));
    listener.close();
  });

  it("closes without OK when the guest refuses, and says why in the log", async () => {
    const socket = await rig.open();
    socket.write("CONNECT 7777\n");
    assert.equal((await readToEnd(socket)).toString(), "");
    await rig.until(() => rig.events("host-connect-failed").length > 0, "the log line");
    assert.match(rig.events("host-connect-failed")[0].message, /7777/);
  });

  for (const line of [
    "HELLO\n",
    "CONNECT\n",
    "CONNECT -1\n",
    "CONNECT 4294967295\n",
    "CONNECT 1 2\n",
    "\n",
  ]) {
    it(`closes on ${JSON.stringify(line)}, which is no request`, async () => {
      const before = rig.events("handshake-failed").length;
      const socket = await rig.open();
      socket.write(line);
      assert.equal((await readToEnd(socket).catch(() => "")).toString(), "");
      await rig.until(() => rig.events("handshake-failed").length > before, "the log line");
    });
  }

  it("does not mind clients that leave half-way", async () => {
    for (const text of ["", "CONN", "CONNECT 2048"]) {
      const socket = await rig.open();
      if (text !== "") socket.write(text);
      socket.destroy();
      await once(socket, "close");
    }
    const { answer } = await handshake(["CONNECT 2048\n"]);
    assert.match(answer, /^OK/);
  });

  it("gives a client that left after its line nothing, and the guest an end", async () => {
    const listener = machine.driver.listen(PORT);
    const socket = await rig.open();
    socket.write("CONNECT 2048\n");
    const guest = await listener.accept();
    socket.destroy();
    assert.equal(await guest.read(), undefined);
    await guest.close();
    listener.close();
  });

  it("tells a client at once when no VMM is connected", async () => {
    const alone = await Rig.start({ connectTimeoutMs: 100 });
    try {
      const socket = await alone.open();
      socket.write("CONNECT 2048\n");
      assert.equal((await readToEnd(socket).catch(() => "")).toString(), "");
      await alone.until(() => alone.events("host-connect-failed").length > 0, "the log line");
    } finally {
      await alone.close();
    }
  });

  it("closes a client that has not sent its line in the time that is set", async () => {
    const alone = await Rig.start({ handshakeTimeoutMs: 50 });
    try {
      const socket = await alone.open();
      socket.write("CONNECT 20");
      assert.equal((await readToEnd(socket).catch(() => "")).toString(), "");
      await alone.until(() => alone.events("handshake-failed").length > 0, "the log line");
      assert.equal(alone.events("handshake-failed")[0].message, "no CONNECT line within 50 ms");
    } finally {
      await alone.close();
    }
  });

  it("keeps reading other clients while one dawdles", async () => {
    const slow = await rig.open();
    slow.write("CONNECT 20");
    const { answer } = await handshake(["CONNECT 2048\n"]);
    assert.match(answer, /^OK/);
    const listener = machine.driver.listen(PORT);
    slow.write("48\nslow but sure");
    const guest = await listener.accept();
    assert.equal(Buffer.from((await guest.read()) ?? []).toString(), "slow but sure");
    assert.match((await readExactly(slow, 3)).toString(), /^OK /);
    slow.end();
    await guest.close();
    listener.close();
  });
});
