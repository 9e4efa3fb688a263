/**
 * How connections begin and end through the whole device: half-close, refusal, reset, many at once.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { GuestSocketError } from "../../src/guest/connection.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { Shutdown } from "../../src/vsock/header.js";
import { assertSame, exchange, noise, Rig, readExactly, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

const HOST_PORT = 1024;
const GUEST_PORT = 2048;

describe("the end of a connection", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  before(async () => {
    rig = await Rig.start();
    machine = rig.boot();
  });
  after(() => rig.close());

  it("a guest's half-close is the host's end of file, and leaves the host's direction open", async () => {
    const listener = await rig.listen(HOST_PORT);
    const guest = await machine.driver.connect(HOST_PORT);
    const host = await listener.accept();
    await guest.write(Buffer.from("all that I have"));
    guest.shutdown(Shutdown.SEND);
    assert.equal((await readToEnd(host)).toString(), "all that I have");
    const answer = noise(700_000);
    host.end(answer);
    assertSame(await guest.readToEnd(), answer, "the answer after the half-close");
    await guest.close();
    assert.equal(guest.wasReset, false);
    listener.close();
  });

  it("a host's half-close is the guest's end of file, and leaves the guest's direction open", async () => {
    const listener = machine.driver.listen(GUEST_PORT);
    const [host, guest] = await Promise.all([rig.connect(GUEST_PORT), listener.accept()]);
    host.end("all that I have");
    assert.equal((await guest.readToEnd()).toString(), "all that I have");
    assert.equal(guest.state, "established");
    const answer = noise(700_000);
    const written = guest.write(answer).then(() => guest.shutdown(Shutdown.SEND));
    assertSame(await readToEnd(host), answer, "the answer after the half-close");
    await written;
    await guest.close();
    assert.equal(guest.wasReset, false);
    listener.close();
  });

  it("a guest that closes has everything delivered before", async () => {
    const listener = await rig.listen(HOST_PORT);
    const guest = await machine.driver.connect(HOST_PORT);
    const host = await listener.accept();
    const data = noise(1_500_000);
    const written = guest.write(data).then(() => guest.close());
    assertSame(await readToEnd(host), data, "what was sent before the close");
    host.end();
    await written;
    listener.close();
  });

  it("a port that nobody listens on is refused with a reset, with the reason in the log", async () => {
    await assert.rejects(machine.driver.connect(4321), (error) => {
      assert.ok(error instanceof GuestSocketError);
      return error.code === "ECONNRESET";
    });
    await rig.until(() => rig.events("connection-refused").length > 0, "the log line");
    assert.match(rig.events("connection-refused")[0].message, /4321/);
  });

  it("a killed guest application resets, and the host's program sees an end", async () => {
    const listener = await rig.listen(HOST_PORT);
    const guest = await machine.driver.connect(HOST_PORT);
    const host = await listener.accept();
    await guest.write(noise(10_000));
    guest.reset();
    const got = await readToEnd(host).catch(() => undefined);
    assert.ok(got === undefined || got.length <= 10_000);
    listener.close();
  });

  it("a killed host program is seen by a guest that sends", async () => {
    const listener = await rig.listen(HOST_PORT);
    const guest = await machine.driver.connect(HOST_PORT);
    const host = await listener.accept();
    host.destroy();
    const sending = (async () => {
      for (;;) await guest.write(noise(65_536));
    })();
    await assert.rejects(sending, (error) => error instanceof GuestSocketError && error.code === "EPIPE");
    await guest.close();
    listener.close();
  });

  it("a host program's end reaches a guest that only waits", async () => {
    const listener = await rig.listen(HOST_PORT);
    const guest = await machine.driver.connect(HOST_PORT);
    const host = await listener.accept();
    const reading = guest.read();
    host.end();
    assert.equal(await reading, undefined);
    await guest.close();
    listener.close();
  });

  it("200 connections at once, half of them from the host, each keep their own data", async () => {
    const hostListener = await rig.listen(HOST_PORT);
    const guestListener = machine.driver.listen(GUEST_PORT, 200);
    const fromGuest = Array.from({ length: 100 }, async () => {
      const guest = await machine.driver.connect(HOST_PORT);
      const data = noise(30_000);
      const echo = guest.readToEnd();
      await guest.write(data);
      guest.shutdown(Shutdown.SEND);
      assertSame(await echo, data, "an echo from the host");
      await guest.close();
    });
    const echoAtHost = Array.from({ length: 100 }, async () => {
      const host = await hostListener.accept();
      host.end(await readToEnd(host));
    });
    const fromHost = Array.from({ length: 100 }, async () => {
      const host = await rig.connect(GUEST_PORT);
      const data = noise(30_000);
      host.end(data);
      assertSame(await readToEnd(host), data, "an echo from the guest");
    });
    const echoAtGuest = Array.from({ length: 100 }, async () => {
      const guest = await guestListener.accept();
      await guest.write(await guest.readToEnd());
      await guest.close();
    });
    await Promise.all([...fromGuest, ...echoAtHost, ...fromHost, ...echoAtGuest]);
    hostListener.close();
    guestListener.close();
    await rig.until(() => machine.driver.connectionCount === 0, "the guest forgets its connections");
  });

  it("a host that sends to a guest that does not read waits, and loses nothing", async () => {
    const listener = machine.driver.listen(GUEST_PORT);
    const [host, guest] = await Promise.all([rig.connect(GUEST_PORT), listener.accept()]);
    const data = noise(2_000_000);
    host.end(data);
    // The guest's buffer fills up, and nothing more comes.
    await rig.until(() => guest.receivedBytes > 150_000, "a full buffer");
    assert.ok(guest.receivedBytes <= 256 * 1024, "never more than the guest has credit for");
    assertSame(await guest.readToEnd(), data, "what arrived late");
    await guest.close();
    listener.close();
  });

  it("connections opened and closed one after the other leave nothing behind", async () => {
    const listener = await rig.listen(HOST_PORT);
    for (let i = 0; i < 300; i++) {
      const guest = await machine.driver.connect(HOST_PORT);
      const host = await listener.accept();
      if (i % 3 === 0) await exchange(guest, host, noise(10), noise(10));
      else if (i % 3 === 1) host.end();
      else
        assert.equal(
          (await Promise.all([readExactly(host, 3), guest.write(Buffer.from("abc"))]))[0].length,
          3,
        );
      await guest.close();
      host.destroy();
    }
    assert.equal(machine.driver.connectionCount, 0);
    listener.close();
  });
});
