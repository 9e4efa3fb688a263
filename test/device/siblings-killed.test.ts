/**
 * The process that serves two siblings is killed while one sends to the other, and another one takes the rings of both up
 * (INFLIGHT_SHMFD): each guest is told that every connection with the other is gone, idle ones too.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { GuestConnection } from "../../src/guest/connection.js";
import { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { FIRST_CID, keepInflight, keeping, QUEUE_SIZE, Served, until } from "./killed-rig.js";
import { assertSame, noise, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 700;
const SECOND_CID = FIRST_CID + 1;
const BYTES = 4_000_000;

/** Both ends of a stream from one guest to the other. */
async function connect(from: VirtualMachine, to: VirtualMachine, cid: number): Promise<GuestConnection[]> {
  const listener = to.driver.listen(PORT);
  const ends = await Promise.all([from.driver.connect(PORT, cid), listener.accept()]);
  listener.close();
  return ends;
}

async function connectMessages(from: VirtualMachine, to: VirtualMachine, cid: number) {
  const listener = to.driver.listenSeqpacket(PORT);
  const ends = await Promise.all([from.driver.connectSeqpacket(PORT, cid), listener.accept()]);
  listener.close();
  return ends;
}

/** What comes until the connection is over, however that is. */
function collect(end: GuestConnection): Uint8Array[] {
  const chunks: Uint8Array[] = [];
  void (async () => {
    for (let chunk = await end.read(); chunk !== undefined; chunk = await end.read()) chunks.push(chunk);
  })().catch(() => {});
  return chunks;
}

describe("siblings whose process is killed under load", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const isolate of ["thread", "process"] as const) {
    it(`hear of the end of every connection, each on its side: a ${isolate} for both`, async () => {
      const served = new Served(isolate, 2);
      await served.start();
      const boot = (socketPath: string) =>
        new VirtualMachine({
          socketPath,
          profile: keeping("qemu-7.2"),
          platform: { kind: "direct" },
          queueSize: QUEUE_SIZE,
        });
      const [a, b] = served.socketPaths.map(boot);
      try {
        const [useFileOfA, useFileOfB] = [keepInflight(a), keepInflight(b)];
        for (let round = 0; round < 2; round++) {
          const idle = await connect(a, b, SECOND_CID);
          const idleBack = await connect(b, a, FIRST_CID);
          const messages = await connectMessages(b, a, FIRST_CID);
          await messages[0].write(Buffer.from("whole"));
          assert.equal((await messages[1].readMessage())?.bytes.length, 5);
          const busy = await connect(a, b, SECOND_CID);
          const data = noise(BYTES);
          busy[0].write(data).catch(() => {});
          const arrived = collect(busy[1]);
          const bytes = () => arrived.reduce((sum, { length }) => sum + length, 0);
          await until(() => bytes() > 100_000, "some of the load");

          await served.replace();
          a.reconnect({ beforeStart: useFileOfA });
          b.reconnect({ beforeStart: useFileOfB });
          const gone = () => a.driver.connectionCount + b.driver.connectionCount === 0;
          await until(gone, "the end of all old connections, on both sides");

          for (const end of [...idle, ...idleBack, ...messages, ...busy]) assert.equal(end.wasReset, true);
          assertSame(Buffer.concat(arrived), data.subarray(0, bytes()), "what had arrived");
          const [client, server] = await connect(b, a, FIRST_CID);
          await client.write(Buffer.from("works")).then(() => client.shutdown(2));
          assert.equal(String(await server.readToEnd()), "works");
          await Promise.all([client.close(), server.close()]);
        }
      } finally {
        a.kill();
        b.kill();
        await served.close();
      }
    });
  }
});
