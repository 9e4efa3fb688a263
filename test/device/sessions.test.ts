/**
 * One device and several front-ends, one after the other: reboots, crashes, machines of another kind.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { DMA_KINDS } from "../../src/guest/dma.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { F, mask } from "../../src/virtio/index.js";
import { StartRefused } from "../../src/vmm/player.js";
import { assertWorks, Rig, readExactly, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

describe("front-ends one after the other", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  });
  after(() => rig.close());

  const lastMode = () => rig.events("translation-mode").at(-1)?.fields?.mode;

  it("each guest works, whatever kind came before it", async () => {
    for (const kind of [...DMA_KINDS, ...[...DMA_KINDS].reverse()]) {
      const machine = rig.boot({ kind });
      await assertWorks(rig, machine);
      assert.equal(lastMode(), kind === "viommu" || kind === "passthrough" ? "on" : "off");
      rig.off(machine);
    }
  });

  it("a front-end that dies with rings running leaves the device ready for the next", async () => {
    for (const kind of DMA_KINDS) {
      const machine = rig.boot({ kind });
      await assertWorks(rig, machine);
      rig.off(machine, "kill");
      const next = rig.boot({ kind });
      await assertWorks(rig, next);
      rig.off(next);
    }
  });

  it("a connection ends with its front-end, and the host's program sees it", async () => {
    const machine = rig.boot();
    const listener = await rig.listen(5555);
    const guest = await machine.driver.connect(5555);
    const host = await listener.accept();
    await guest.write(Buffer.from("last words"));
    assert.equal((await readExactly(host, 10)).toString(), "last words");
    rig.off(machine, "kill");
    const rest = await readToEnd(host).catch(() => Buffer.alloc(0));
    assert.equal(rest.length, 0);
    listener.close();
  });

  it("the next front-end waits for its turn while one is served", async () => {
    const first = rig.boot();
    const { length: started } = rig.events("session-start");
    const { length: ended } = rig.events("session-end");
    rig.off(first);
    const second = rig.boot();
    await assertWorks(rig, second);
    await rig.until(() => rig.events("session-start").length > started, "the second session's record");
    // Records come in order: where the second session has begun, the end of the first has been told.
    assert.ok(rig.events("session-end").length > ended);
    rig.off(second);
  });
});

/** A device with this configuration, for one test. */
async function withRig(
  config: Parameters<typeof Rig.start>[0],
  use: (rig: Rig) => Promise<void>,
): Promise<void> {
  const rig = await Rig.start(config ?? {});
  try {
    await use(rig);
  } finally {
    await rig.close();
  }
}

describe("bit 33 not offered", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("is no hindrance to QEMU with a vIOMMU, which passes the bit all the same", () =>
    withRig({ accessPlatform: false }, async (rig) => {
      const machine = rig.boot({ kind: "viommu" });
      assert.equal(machine.negotiation.offeredByBackend & mask(F.ACCESS_PLATFORM), 0n);
      assert.notEqual(machine.negotiation.sentToBackend & mask(F.ACCESS_PLATFORM), 0n);
      await assertWorks(rig, machine);
    }));

  it("makes a protected guest under crosvm refuse, by the guest's own choice", () =>
    withRig({ accessPlatform: false }, async (rig) => {
      assert.throws(
        () => rig.boot({ kind: "protected", profile: builtinVmm("crosvm-vhost-user") }),
        (error) =>
          error instanceof StartRefused &&
          error.by === "guest" &&
          /requires ACCESS_PLATFORM \(33\)/.test(error.message),
      );
    }));
});

describe("the option iotlb", { timeout: SUITE_TIMEOUT_MS }, () => {
  it("`on` serves a guest behind a vIOMMU", () =>
    withRig({ iotlb: "on" }, (rig) => assertWorks(rig, rig.boot({ kind: "viommu" }))));

  it("`off` serves guests without a vIOMMU, with bit 33 and without", () =>
    withRig({ iotlb: "off" }, async (rig) => {
      for (const options of [
        { kind: "direct" },
        { kind: "restricted", profile: builtinVmm("crosvm-vhost-user") },
      ] as const) {
        const machine = rig.boot(options);
        await assertWorks(rig, machine);
        rig.off(machine);
      }
    }));

  it("`on` gives a guest whose front-end maps nothing no access at all", () =>
    withRig({ iotlb: "on" }, async (rig) => {
      const machine = rig.boot({ kind: "protected", profile: builtinVmm("crosvm-vhost-user") });
      await assert.rejects(machine.driver.connect(1024), /did not answer/);
    }));
});
