/** INVALIDATE in the middle of a transfer between siblings, on either side: the same promises as with the host (`barrier.test.ts`). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Access } from "../../src/memory/address.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { clean, PageMover } from "./page-mover.js";
import { assertSame, FIRST_CID, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 700;
const BYTES = 1_500_000;

type Side = "the sender" | "the receiver";

/** Sends from one guest to the other while pages of one of them move; the other is not behind a vIOMMU. */
async function transfer(moving: Side): Promise<number> {
  const rig = await Rig.start({ groups: ["x"] }, { groups: ["x"] });
  try {
    const boot = (vm: number, side: Side): VirtualMachine =>
      rig.boot({
        vm,
        kind: side === moving ? "viommu" : "direct",
        platform: { slots: [{ gpa: 0, bytes: 128 * 2 ** 20 }] },
      });
    const sender = boot(0, "the sender");
    const receiver = boot(1, "the receiver");
    const mover = new PageMover(moving === "the sender" ? sender : receiver);
    const listener = receiver.driver.listen(PORT);
    const [client, server] = await Promise.all([
      sender.driver.connect(PORT, FIRST_CID + 1),
      listener.accept(),
    ]);
    const data = clean(BYTES);
    const sent = client.write(data).then(() => client.shutdown(2));
    // At once after each write, before the device has had the time to read it all.
    if (moving === "the sender") sender.loop.afterEvents(() => mover.moveSome(4, Access.READ));
    const chunks: Uint8Array[] = [];
    for (let chunk = await server.read(); chunk !== undefined; chunk = await server.read()) {
      chunks.push(chunk);
      // Buffers that the device is about to fill.
      if (moving === "the receiver" && chunks.length % 8 === 0) mover.moveSome(3, Access.WRITE);
      mover.assertUntouched();
    }
    assertSame(Buffer.concat(chunks), data, "what arrived while pages moved");
    await sent;
    await Promise.all([client.close(), server.close()]);
    return mover.moved;
  } finally {
    await rig.close();
  }
}

describe("the barrier of INVALIDATE between siblings", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("a page of the sender that moves is read where it is now", async () => {
    const moved = await transfer("the sender");
    assert.ok(moved > 10, `${moved} pages moved`);
  });

  it("a page that was taken from the receiver is not written to any more", async () => {
    const moved = await transfer("the receiver");
    assert.ok(moved > 50, `${moved} pages moved`);
  });
});
