/**
 * Packed rings and IN_ORDER through the whole device: the built-in guest's driver on real rings, under a front-end that
 * offers packed rings itself and knows their bases, and under one that merely hands the bit on.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { DMA_KINDS } from "../../src/guest/dma.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { F, has, mask, maskOf } from "../../src/virtio/index.js";
import { assertWorks, exchange, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

/** QEMU with `packed=on`, and in_order as newer ones have it. */
function packedOn(): VmmProfile {
  const qemu = builtinVmm("qemu-7.2");
  const { offer } = qemu;
  return {
    ...qemu,
    offer: { ...offer, own: offer.own | mask(F.RING_PACKED), passed: offer.passed | mask(F.IN_ORDER) },
  };
}

/** Hands the bits on and speaks of split rings. */
function handingOn(): VmmProfile {
  const qemu = builtinVmm("qemu-7.2");
  const { offer } = qemu;
  return { ...qemu, offer: { ...offer, passed: offer.passed | maskOf(F.RING_PACKED, F.IN_ORDER) } };
}

describe("a guest with packed rings", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;

  before(async () => {
    rig = await Rig.start();
  });

  after(() => rig.close());

  for (const kind of DMA_KINDS) {
    it(`moves data both ways: ${kind}`, async () => {
      const machine = rig.boot({ kind, profile: packedOn() });
      const { sentToBackend } = machine.negotiation;
      assert.ok(has(sentToBackend, F.RING_PACKED) && has(sentToBackend, F.IN_ORDER));
      const listener = await rig.listen(700);
      try {
        const guest = await machine.driver.connect(700);
        await exchange(guest, await listener.accept(), noise(2 ** 21), noise(2 ** 21));
        await guest.close();
      } finally {
        listener.close();
        rig.off(machine);
      }
      assert.equal(rig.events("ring-broken").length, 0);
    });
  }

  it("moves data in rings whose size is no power of two, without EVENT_IDX and indirect tables", async () => {
    for (const queueSize of [3, 5, 100]) {
      const unknownBits = maskOf(F.EVENT_IDX, F.INDIRECT_DESC);
      const machine = rig.boot({ profile: packedOn(), queueSize, unknownBits });
      await assertWorks(rig, machine, 0, 300_000);
      rig.off(machine);
    }
  });

  it("moves data under a front-end that hands the bit on and knows split rings only, after a reboot as well", async () => {
    for (let boot = 0; boot < 3; boot++) {
      const machine = rig.boot({ profile: handingOn() });
      assert.ok(has(machine.negotiation.sentToBackend, F.RING_PACKED));
      await assertWorks(rig, machine, 0, 100_000);
      rig.off(machine);
    }
  });

  it("is served beside guests that have split ones, in the same program, one after the other", async () => {
    for (const profile of [packedOn(), builtinVmm("qemu-7.2"), packedOn()]) {
      const machine = rig.boot({ profile });
      await assertWorks(rig, machine);
      rig.off(machine);
    }
  });

  it("with split rings keeps IN_ORDER just the same", async () => {
    const machine = rig.boot({ profile: handingOn(), unknownBits: mask(F.RING_PACKED) });
    const { sentToBackend } = machine.negotiation;
    assert.ok(!has(sentToBackend, F.RING_PACKED) && has(sentToBackend, F.IN_ORDER));
    await assertWorks(rig, machine, 0, 1_000_000);
    rig.off(machine);
  });
});
