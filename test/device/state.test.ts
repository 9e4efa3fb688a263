/**
 * A guest that goes on running while its device is lost or restored: other sessions, other processes, other machines.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { assertWorks, Rig, readExactly, SUITE_TIMEOUT_MS } from "./rig.js";

async function withRig(use: (rig: Rig) => Promise<void>): Promise<void> {
  const rig = await Rig.start();
  try {
    await use(rig);
  } finally {
    await rig.close();
  }
}

describe("a VMM that reconnects for a running guest", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const name of ["cloud-hypervisor", "crosvm-vhost-user"]) {
    it(`${name}: the guest hears that its connections are gone, and its listeners stay`, () =>
      withRig(async (rig) => {
        const machine = rig.boot({ profile: builtinVmm(name) });
        await assertWorks(rig, machine);
        const guestListener = machine.driver.listen(700);
        const hostListener = await rig.listen(800);
        const idle = await machine.driver.connect(800);
        const host = await hostListener.accept();
        await idle.write(Buffer.from("before"));
        assert.equal((await readExactly(host, 6)).toString(), "before");

        machine.reconnect();
        await rig.until(() => rig.events("transport-reset").length === 1, "the transport reset");
        await rig.until(() => machine.driver.connectionCount === 0, "the end of the idle connection");

        await assertWorks(rig, machine);
        const client = await rig.connect(700);
        const accepted = await guestListener.accept();
        client.write("after");
        assert.equal(Buffer.from((await accepted.read()) ?? []).toString(), "after");
      }));
  }

  it("qemu-7.2, which keeps the event queue: the guest is reset when it uses an old connection", () =>
    withRig(async (rig) => {
      const machine = rig.boot();
      const listener = await rig.listen(800);
      const idle = await machine.driver.connect(800);
      await listener.accept();
      machine.reconnect();
      await idle.write(Buffer.from("into the void"));
      await rig.until(() => machine.driver.connectionCount === 0, "the reset of the connection");
      assert.deepEqual(rig.events("transport-reset"), []);
      await assertWorks(rig, machine);
    }));

  it("is served behind a vIOMMU, and again and again", () =>
    withRig(async (rig) => {
      const machine = rig.boot({ kind: "viommu" });
      for (let round = 0; round < 5; round++) {
        await assertWorks(rig, machine);
        machine.reconnect();
      }
      await assertWorks(rig, machine);
    }));
});
