/**
 * One socket of the guest with a stand-in for its driver: what it sends for what it is told.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Timers } from "../linux/timers.js";
import { Op, opName, PacketHeader, Shutdown } from "../vsock/header.js";
import { type ConnectionHost, GuestConnection, GuestSocketError } from "./connection.js";
import { GuestCredit } from "./credit.js";

class Driver implements ConnectionHost {
  nowMs = 0;
  readonly timers = new Timers(() => this.nowMs);
  readonly sent: string[] = [];
  forgotten = false;

  control(connection: GuestConnection, op: number, flags = 0): void {
    connection.credit.told();
    this.sent.push(flags === 0 ? opName(op) : `${opName(op)} ${flags}`);
  }

  wantsToSend(connection: GuestConnection): void {
    while (connection.canSend) {
      const length = connection.payloadLength(65_536);
      this.sent.push(`RW ${length}`);
      connection.payloadSent(length);
    }
  }

  forget(): void {
    this.forgotten = true;
  }

  setTimer(delayMs: number, callback: () => void) {
    return this.timers.add(delayMs, callback);
  }

  pass(ms: number): void {
    this.nowMs += ms;
    this.timers.runDue();
  }
}

function packet(op: number, more: Partial<PacketHeader> = {}): PacketHeader {
  return Object.assign(new PacketHeader(), { op, bufAlloc: 100_000, fwdCnt: 0, ...more });
}

function receive(connection: GuestConnection, header: PacketHeader): void {
  connection.packet(header, (take) => take(new Uint8Array(header.len)));
}

function established(): { driver: Driver; connection: GuestConnection } {
  const driver = new Driver();
  const connection = new GuestConnection(driver, 1, 2, "established");
  connection.credit.peerBufAlloc = 100_000;
  return { driver, connection };
}

describe("a guest's connection", () => {
  it("is open once the peer responds", async () => {
    const driver = new Driver();
    const connection = new GuestConnection(driver, 1, 2, "connecting");
    const opened = connection.open();
    receive(connection, packet(Op.RESPONSE));
    await opened;
    assert.equal(connection.state, "established");
  });

  it("reports a refusal, silence, and an answer that makes no sense", async () => {
    const outcome = async (act: (driver: Driver, connection: GuestConnection) => void) => {
      const driver = new Driver();
      const connection = new GuestConnection(driver, 1, 2, "connecting");
      const opened = connection.open();
      act(driver, connection);
      const error: unknown = await opened.catch((reason: unknown) => reason);
      assert.ok(error instanceof GuestSocketError && driver.forgotten);
      return [error.code, ...driver.sent];
    };
    assert.deepEqual(await outcome((_, it) => receive(it, packet(Op.RST))), ["ECONNRESET"]);
    assert.deepEqual(await outcome((driver) => driver.pass(2000)), ["ETIMEDOUT"]);
    assert.deepEqual(await outcome((_, it) => receive(it, packet(Op.RW))), ["ECONNRESET", "RST"]);
  });

  it("sends as much as the peer has room for, and the rest when it makes room", async () => {
    const { driver, connection } = established();
    const written = connection.write(new Uint8Array(250_000));
    assert.deepEqual(driver.sent, ["RW 65536", "RW 34464"]);
    receive(connection, packet(Op.CREDIT_UPDATE, { bufAlloc: 300_000, fwdCnt: 100_000 }));
    await written;
    assert.equal(connection.sentBytes, 250_000);
  });

  it("tells of SHUTDOWN only behind what was written", async () => {
    const { driver, connection } = established();
    const written = connection.write(new Uint8Array(150_000));
    connection.shutdown(Shutdown.SEND);
    assert.ok(!driver.sent.includes("SHUTDOWN 2"));
    receive(connection, packet(Op.CREDIT_UPDATE, { fwdCnt: 100_000 }));
    await written;
    assert.equal(driver.sent.at(-1), "SHUTDOWN 2");
  });

  it("answers a shutdown of both directions with RST once everything is read", async () => {
    const { driver, connection } = established();
    receive(connection, packet(Op.RW, { len: 10 }));
    receive(connection, packet(Op.SHUTDOWN, { flags: Shutdown.BOTH }));
    assert.ok(!driver.sent.includes("RST"));
    assert.equal((await connection.read())?.length, 10);
    assert.equal(driver.sent.at(-1), "RST");
    assert.equal(await connection.read(), undefined);
    await connection.closed;
  });

  it("closes with SHUTDOWN, and with RST if nobody answers for 8 seconds", async () => {
    const { driver, connection } = established();
    const closed = connection.close();
    assert.deepEqual(driver.sent, ["SHUTDOWN 3"]);
    driver.pass(7999);
    assert.equal(connection.state, "closing");
    driver.pass(1);
    assert.deepEqual(driver.sent, ["SHUTDOWN 3", "RST"]);
    await closed;
  });

  it("resets a peer that sends beyond its credit", async () => {
    const { driver, connection } = established();
    for (let i = 0; i < 5; i++) receive(connection, packet(Op.RW, { len: 60_000 }));
    assert.deepEqual(driver.sent, ["RST"]);
    assert.ok(connection.wasReset);
    assert.equal((await connection.readToEnd()).length, 240_000);
  });

  it("fails what is being written when the peer reads no more", async () => {
    const { connection } = established();
    const written = connection.write(new Uint8Array(250_000));
    receive(connection, packet(Op.SHUTDOWN, { flags: Shutdown.RECEIVE }));
    await assert.rejects(written, /takes no more data/);
    await assert.rejects(connection.write(new Uint8Array(1)), /takes no more data/);
  });

  it("answers CREDIT_REQUEST", () => {
    const { driver, connection } = established();
    receive(connection, packet(Op.CREDIT_REQUEST));
    assert.deepEqual(driver.sent, ["CREDIT_UPDATE"]);
  });
});

describe("credit as Linux keeps it", () => {
  it("wraps at 32 bits", () => {
    const credit = new GuestCredit();
    credit.sent = 0xffff_fff0;
    credit.peerFwdCnt = 0xffff_fff0;
    credit.peerBufAlloc = 1000;
    credit.spend(100);
    assert.equal(credit.sent, 84);
    assert.equal(credit.sendable, 900);
  });

  it("never sends more than its own buffer is large, whatever the peer offers", () => {
    const credit = new GuestCredit(5000);
    credit.peerBufAlloc = 1_000_000;
    assert.equal(credit.sendable, 5000);
  });

  it("tells of free space when little is left, or when nothing is unread", () => {
    const credit = new GuestCredit();
    for (let i = 0; i < 4; i++) assert.ok(credit.receive(60_000));
    assert.ok(!credit.receive(60_000), "beyond the buffer");
    assert.equal(credit.consume(60_000), false);
    assert.equal(credit.consume(60_000), false);
    assert.equal(credit.consume(60_000), false);
    assert.equal(credit.consume(60_000), true);
    credit.told();
    assert.ok(credit.receive(10));
    assert.equal(credit.consume(10), true, "nothing is unread");
  });
});
