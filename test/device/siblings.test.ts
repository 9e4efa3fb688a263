/**
 * Sibling guests with real rings in real memory, in real threads: whoever shares a group talks to the other by CID, with
 * streams and with messages, whichever of the two is behind a vIOMMU.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertSame, assertWorks, type BootOptions, FIRST_CID, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 700;
const BYTES = 3_000_000;
const [CID_A, CID_B] = [FIRST_CID, FIRST_CID + 1];

/** A connection from one guest to another, from both ends. */
async function connect(from: VirtualMachine, to: VirtualMachine, cid: number) {
  const listener = to.driver.listen(PORT);
  const [client, server] = await Promise.all([from.driver.connect(PORT, cid), listener.accept()]);
  listener.close();
  return { client, server };
}

/** Sends `bytes` each way at the same time, ends both directions, and compares. */
async function exchange(one: GuestConnection, two: GuestConnection, bytes: number): Promise<void> {
  const [toTwo, toOne] = [noise(bytes), noise(bytes)];
  const send = (end: GuestConnection, data: Buffer) => end.write(data).then(() => end.shutdown(2));
  const [atTwo, atOne] = await Promise.all([
    two.readToEnd(),
    one.readToEnd(),
    send(one, toTwo),
    send(two, toOne),
  ]);
  assertSame(atTwo, toTwo, "what the one sent");
  assertSame(atOne, toOne, "what the other sent");
}

async function assertSiblings(a: VirtualMachine, b: VirtualMachine, cidOfB: number, bytes = 50_000) {
  const { client, server } = await connect(a, b, cidOfB);
  await exchange(client, server, bytes);
  await Promise.all([client.close(), server.close()]);
}

const KINDS = ["direct", "viommu"] as const;
for (const kindOfA of KINDS) {
  for (const kindOfB of KINDS) {
    describe(`siblings, ${kindOfA} and ${kindOfB}`, { timeout: SUITE_TIMEOUT_MS }, () => {
      let rig: Rig;
      let a: VirtualMachine;
      let b: VirtualMachine;
      before(async () => {
        rig = await Rig.start({ groups: ["x"] }, { groups: ["y", "x"] });
        a = rig.boot({ kind: kindOfA } satisfies BootOptions);
        b = rig.boot({ vm: 1, kind: kindOfB });
        await assertWorks(rig, a);
        await assertWorks(rig, b, 1);
      });
      after(() => rig.close());

      it("move bytes both ways at once, whoever connects", async () => {
        await assertSiblings(a, b, CID_B, BYTES);
        await assertSiblings(b, a, CID_A, BYTES);
      });

      it("move messages both ways, with their boundaries and ends of records", async () => {
        const listener = b.driver.listenSeqpacket(PORT);
        const [client, server] = await Promise.all([
          a.driver.connectSeqpacket(PORT, CID_B),
          listener.accept(),
        ]);
        listener.close();
        const messages = [1, 100_000, 0, 3732, 3733, 65_536, 7, 200_000].map(noise);
        for (const [one, two] of [
          [client, server],
          [server, client],
        ]) {
          const sent = (async () => {
            for (const [index, bytes] of messages.entries()) await one.write(bytes, index % 3 === 1);
          })();
          for (const [index, bytes] of messages.entries()) {
            const message = await two.readMessage();
            assert.ok(message !== undefined);
            assertSame(message.bytes, bytes, `message ${index}`);
            assert.equal(message.endOfRecord, index % 3 === 1);
          }
          await sent;
        }
        await Promise.all([client.close(), server.close()]);
      });

      it("do not hold each other up: one that does not read leaves the other's connections alone", async () => {
        const stuck = await connect(a, b, CID_B);
        const data = noise(BYTES);
        const sent = stuck.client.write(data).then(() => stuck.client.shutdown(2));
        await rig.until(() => stuck.client.credit.sendable === 0, "a full connection");
        await assertSiblings(a, b, CID_B);
        await assertWorks(rig, a);
        await assertWorks(rig, b, 1);
        assertSame(await stuck.server.readToEnd(), data, "what was read late");
        await sent;
        await Promise.all([stuck.client.close(), stuck.server.close()]);
      });

      it("are refused where nobody listens", async () => {
        await assert.rejects(a.driver.connect(PORT + 1, CID_B), { code: "ECONNRESET" });
        await assert.rejects(b.driver.connectSeqpacket(PORT + 1, CID_A), { code: "ECONNRESET" });
      });

      it("lose their connections with the other's VM, and find it again when it is back", async () => {
        const { client } = await connect(a, b, CID_B);
        rig.off(b, "kill");
        await client.closed;
        assert.equal(client.wasReset, true);
        await assert.rejects(a.driver.connect(PORT, CID_B), { code: "ECONNRESET" });
        b = rig.boot({ vm: 1, kind: kindOfB });
        await assertWorks(rig, b, 1);
        await assertSiblings(a, b, CID_B);
      });
    });
  }
}

describe("a guest", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("reaches every VM that names no group if it names none, as with vhost-device-vsock", async () => {
    const rig = await Rig.start({}, {});
    try {
      const [a, b] = [rig.boot(), rig.boot({ vm: 1 })];
      await assertWorks(rig, b, 1);
      await assertSiblings(a, b, CID_B);
      const [record] = rig.records.filter(({ event }) => event === "siblings");
      assert.deepEqual(record.fields, { cids: "3, 4", groups: "default" });
    } finally {
      await rig.close();
    }
  });

  it("does not reach one with which it shares no group, though both share one with a third", async () => {
    const rig = await Rig.start({ groups: ["x"] }, { groups: ["y"] }, { groups: ["x", "y"] });
    try {
      const [a, b, c] = [rig.boot(), rig.boot({ vm: 1 }), rig.boot({ vm: 2 })];
      for (const [vm, machine] of [a, b, c].entries()) await assertWorks(rig, machine, vm);
      b.driver.listen(PORT);
      await assert.rejects(a.driver.connect(PORT, CID_B), { code: "ECONNRESET" });
      await assertSiblings(a, c, CID_B + 1);
      await assertSiblings(c, a, CID_A);
    } finally {
      await rig.close();
    }
  });
});
