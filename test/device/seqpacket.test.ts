/**
 * Seqpacket sockets through the whole device: the built-in guest's driver on one side, seqpacket Unix sockets on the other,
 * in every way in which a guest's memory is reached.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { GuestSeqpacketConnection } from "../../src/guest/seqpacket-connection.js";
import { HostMessages } from "../host-messages.js";
import { assertSame, type BootOptions, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

/** Around what a receive buffer and a packet hold, and far beyond. */
const LENGTHS = [1, 4052, 4053, 65_536, 65_537, 200_000, 2, 100_000, 3];

async function withRig(use: (rig: Rig) => Promise<void>): Promise<void> {
  const rig = await Rig.start();
  try {
    await use(rig);
  } finally {
    await rig.close();
  }
}

async function readAll(guest: GuestSeqpacketConnection): Promise<Uint8Array[]> {
  const messages: Uint8Array[] = [];
  for (let next = await guest.readMessage(); next !== undefined; next = await guest.readMessage())
    messages.push(next.bytes);
  return messages;
}

function assertMessages(actual: readonly Uint8Array[], expected: readonly Uint8Array[], where: string): void {
  assert.deepEqual(
    actual.map(({ length }) => length),
    expected.map(({ length }) => length),
    `the boundaries at the ${where}`,
  );
  for (const [index, message] of actual.entries()) assertSame(message, expected[index], `message ${index}`);
}

/** Both ends send LENGTHS at the same time and end their directions. */
async function exchange(guest: GuestSeqpacketConnection, host: HostMessages): Promise<void> {
  const toHost = LENGTHS.map(noise);
  const toGuest = LENGTHS.map(noise);
  const guestSends = async () => {
    for (const message of toHost) await guest.write(message);
    await guest.shutdown(2);
  };
  const hostSends = async () => {
    for (const message of toGuest) await host.send(message);
    host.endWriting();
  };
  const [atHost, atGuest] = await Promise.all([host.receiveAll(), readAll(guest), guestSends(), hostSends()]);
  assertMessages(atHost, toHost, "host");
  assertMessages(atGuest, toGuest, "guest");
  host.close();
  await guest.close();
}

describe("messages between guest and host", { timeout: SUITE_TIMEOUT_MS }, () => {
  const guests: [string, BootOptions][] = [
    ["a plain guest", {}],
    ["a guest behind a vIOMMU", { kind: "viommu" }],
    ["a guest with a queue of 4", { queueSize: 4 }],
  ];
  for (const [what, options] of guests) {
    it(`${what}: arrive whole and in order, over connections from both sides`, () =>
      withRig(async (rig) => {
        const machine = rig.boot(options);
        const listener = HostMessages.listen(rig.udsPath(), 800);
        const guest = await machine.driver.connectSeqpacket(800);
        await exchange(guest, await listener.accept());
        listener.close();

        const guestListener = machine.driver.listenSeqpacket(700);
        const host = await HostMessages.connect(rig.udsPath(), 700);
        await exchange(await guestListener.accept(), host);
      }));
  }

  it("an end of record is taken, and ends at the host", () =>
    withRig(async (rig) => {
      const machine = rig.boot();
      const listener = HostMessages.listen(rig.udsPath(), 800);
      const guest = await machine.driver.connectSeqpacket(800);
      const host = await listener.accept();
      listener.close();
      await guest.write(Buffer.from("record"), true);
      await host.send(await host.receive());
      const answer = await guest.readMessage();
      assert.equal(String(answer && Buffer.from(answer.bytes)), "record");
      assert.equal(answer?.endOfRecord, false);
      host.close();
    }));

  it("a message longer than the device's buffer is refused by the driver, and the connection lives", () =>
    withRig(async (rig) => {
      const machine = rig.boot();
      const listener = HostMessages.listen(rig.udsPath(), 800);
      const guest = await machine.driver.connectSeqpacket(800);
      const host = await listener.accept();
      listener.close();
      await assert.rejects(guest.write(Buffer.alloc(2 ** 21)), { code: "EMSGSIZE" });
      await guest.write(Buffer.from("short"));
      assert.equal(String(await host.receive()), "short");
      host.close();
    }));
});
