/**
 * Data both ways through the whole device, for every kind of guest, every way of notification, every framing.
 */

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { DMA_KINDS, type DmaKind } from "../../src/guest/dma.js";
import {
  type Framing,
  JOINED,
  LINUX,
  LINUX_BEFORE_6_3,
  receiveBuffersOf,
  TORN,
} from "../../src/guest/framing.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { F, maskOf } from "../../src/virtio/index.js";
import { type BootOptions, exchange, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const HOST_PORT = 1024;
const GUEST_PORT = 2048;

describe("data between guest and host", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  before(async () => {
    rig = await Rig.start();
  });
  after(() => rig.close());

  /** One connection from each side, each with data both ways at once. */
  async function transfers(options: BootOptions, bytes: number): Promise<void> {
    const machine = rig.boot(options);
    const { driver } = machine;
    const hostListener = await rig.listen(HOST_PORT);
    try {
      const fromGuest = await driver.connect(HOST_PORT);
      const accepted = await hostListener.accept();
      await exchange(fromGuest, accepted, noise(bytes), noise(bytes));
      await fromGuest.close();

      const guestListener = driver.listen(GUEST_PORT);
      const [fromHost, incoming] = await Promise.all([rig.connect(GUEST_PORT), guestListener.accept()]);
      await exchange(incoming, fromHost, noise(bytes), noise(bytes));
      await incoming.close();
      assert.equal(driver.droppedPackets, 0);
      assert.deepEqual(machine.frontEnd.brokenRings(), []);
    } finally {
      hostListener.close();
      rig.off(machine);
    }
  }

  const notifications: [string, bigint][] = [
    ["EVENT_IDX and INDIRECT", 0n],
    ["EVENT_IDX", maskOf(F.INDIRECT_DESC)],
    ["INDIRECT", maskOf(F.EVENT_IDX)],
    ["neither EVENT_IDX nor INDIRECT", maskOf(F.EVENT_IDX, F.INDIRECT_DESC)],
  ];
  const framings: Framing[] = [LINUX, LINUX_BEFORE_6_3, JOINED, TORN];

  for (const kind of DMA_KINDS) {
    for (const [name, unknownBits] of notifications) {
      for (const framing of framings) {
        it(`arrives intact: ${kind}, ${name}, framing ${framing.name}`, () =>
          transfers({ kind, unknownBits, framing }, 150_000));
      }
    }
  }

  for (const bytes of [45, 64, 100, 1001, 4096, 5000, 65_580]) {
    it(`arrives intact with receive buffers of ${bytes} bytes`, () =>
      transfers({ framing: receiveBuffersOf(bytes) }, bytes < 100 ? 1000 : 60_000));
  }

  for (const queueSize of [2, 16, 512, 1024]) {
    it(`arrives intact with queues of ${queueSize}`, () => transfers({ queueSize }, 300_000));
  }

  it("arrives intact with megabytes in flight both ways", () => transfers({}, 8 * 2 ** 20));

  const vmmKinds: DmaKind[] = ["direct", "restricted", "protected"];
  for (const kind of vmmKinds) {
    it(`arrives intact under a VMM that passes bit 33 and serves no IOTLB: ${kind}`, () =>
      transfers({ kind, profile: builtinVmm("crosvm-vhost-user") }, 200_000));
  }

  // QEMU 7.2 loses the INVALIDATEs of a guest that unmaps lazily, and data with them.
  it("arrives intact behind a vIOMMU that unmaps lazily", () =>
    transfers(
      { kind: "viommu", platform: { unmapping: "lazy" }, profile: builtinVmm("qemu-10.0") },
      1_000_000,
    ));

  it("arrives intact behind a vIOMMU that hands out the top of the 64-bit space", () =>
    transfers({ kind: "viommu", platform: { topOf64Bits: true } }, 300_000));

  it("arrives intact behind a vIOMMU whose few addresses are used again at once", () =>
    transfers({ kind: "viommu", platform: { spanPages: 400 } }, 300_000));

  it("arrives intact in memory with a hole, above 4 GiB and below", () => {
    const slots = [
      { gpa: 0, bytes: 2 * 2 ** 20 },
      { gpa: 2 ** 32, bytes: 32 * 2 ** 20 },
    ];
    return transfers({ platform: { slots } }, 300_000);
  });

  it("arrives intact when the guest offers the smallest buffer that Linux allows", () =>
    transfers({ bufferBytes: 128 }, 10_000));
});
