/**
 * The barrier: once INVALIDATE is answered, no system call of the device touches the page any more. Pages are taken
 * away from under a running transfer and overwritten straight after the answer; what was in them, or is moved to
 * another page, must arrive all the same, and what they are overwritten with must never.
 */

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { describe, it } from "node:test";
import type { GuestConnection } from "../../src/guest/connection.js";
import { Access } from "../../src/memory/address.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { clean, PageMover, POISON, watchMappings } from "./page-mover.js";
import { assertSame, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 1024;
const BYTES = 1_500_000;

/** Reads a little now and then, so that the device always has some of it waiting. */
async function readSlowly(host: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let ended = false;
  for (const event of ["end", "close"]) {
    host.once(event, () => {
      ended = true;
    });
  }
  while (!ended) {
    const chunk: Buffer | null = host.read(Math.min(20_000, host.readableLength)) ?? host.read();
    if (chunk !== null) chunks.push(chunk);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return Buffer.concat(chunks);
}

async function withGuest(
  kind: "viommu" | "direct",
  use: (rig: Rig, machine: VirtualMachine) => Promise<void>,
): Promise<void> {
  const rig = await Rig.start();
  try {
    await use(rig, rig.boot({ kind, platform: { slots: [{ gpa: 0, bytes: 128 * 2 ** 20 }] } }));
  } finally {
    await rig.close();
  }
}

async function connect(rig: Rig, machine: VirtualMachine): Promise<{ guest: GuestConnection; host: Socket }> {
  const listener = await rig.listen(PORT);
  const guest = await machine.driver.connect(PORT);
  const host = await listener.accept();
  listener.close();
  return { guest, host };
}

describe("the barrier of INVALIDATE", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const kind of ["viommu", "direct"] as const) {
    it(`a slow reader never sees what a returned buffer is overwritten with: ${kind}`, () =>
      withGuest(kind, async (rig, machine) => {
        watchMappings(machine, ({ gpa, bytes, access }) => {
          if (access === Access.READ) machine.platform.ram.view(gpa, bytes).fill(POISON);
        });
        const { guest, host } = await connect(rig, machine);
        const data = clean(BYTES);
        const sent = guest.write(data).then(() => guest.shutdown(2));
        assertSame(await readSlowly(host), data, "what the slow reader got");
        await sent;
        host.end();
        await guest.close();
      }));
  }

  it("a page that moves while its buffer is with the device is read where it is now", () =>
    withGuest("viommu", async (rig, machine) => {
      const mover = new PageMover(machine);
      const { guest, host } = await connect(rig, machine);
      const data = clean(BYTES);
      const sent = guest.write(data).then(() => guest.shutdown(2));
      // At once after each write, before the device has had the time to read it all.
      machine.loop.afterEvents(() => mover.moveSome(4, Access.READ));
      assertSame(await readSlowly(host), data, "what arrived while pages moved");
      assert.ok(mover.moved > 10, `${mover.moved} pages moved`);
      await sent;
      host.end();
      await guest.close();
    }));

  it("a page that was taken away is not written to any more", () =>
    withGuest("viommu", async (rig, machine) => {
      const mover = new PageMover(machine);
      const listener = machine.driver.listen(2048);
      const [host, guest] = await Promise.all([rig.connect(2048), listener.accept()]);
      const data = clean(BYTES);
      host.end(data);
      const chunks: Uint8Array[] = [];
      for (let chunk = await guest.read(); chunk !== undefined; chunk = await guest.read()) {
        chunks.push(chunk);
        // Buffers that the device is about to fill.
        if (chunks.length % 8 === 0) mover.moveSome(3, Access.WRITE);
        mover.assertUntouched();
      }
      assertSame(Buffer.concat(chunks), data, "what arrived while pages moved");
      assert.ok(mover.moved > 50, `${mover.moved} pages moved`);
      await guest.close();
    }));
});
