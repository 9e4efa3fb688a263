/** Cells of the matrix that everybody talks of, each run, and what is said of them. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import { builtinDevice, builtinGuest, builtinVmm } from "../profiles/builtin.js";
import { runCell } from "./cell.js";
import { CellRun, MODELLED } from "./cell-run.js";
import { type Cell, type CellRecord, VERDICTS, type Verdict } from "./record.js";

async function run(name: string): Promise<Cell> {
  const [guest, vmm, device] = name.split("/");
  return runCell(builtinGuest(guest), builtinVmm(vmm), builtinDevice(device));
}

async function record(name: string): Promise<CellRecord> {
  const cell = await run(name);
  if (cell.verdict === null) throw new Error(`${name} does not apply: ${cell.reason}`);
  return cell;
}

/** Every verdict, provoked: name of the cell, and what its reason speaks of. */
const PROVOKED: readonly (readonly [name: string, verdict: Verdict, reason: RegExp])[] = [
  ["restricted-dma/crosvm-2022-07/linux-5.10", "works", /bit 33 stays between guest and VMM/],
  ["viommu-strict/qemu-7.2/bit33-auto", "works", /goes through the IOTLB/],
  ["viommu-lazy/qemu-10.0/bit33-auto", "works", /goes through the IOTLB/],
  ["passthrough/qemu-7.2/bit33-auto", "works", /goes through the IOTLB/],
  ["plain/qemu-7.2/vhost-device-vsock", "works", /bit 33 is not acknowledged/],
  ["restricted-dma/crosvm-vhost-user/bit33-auto", "works", /does not take it for a wish to translate/],
  ["protected/crosvm-vhost-user/vhost-device-vsock", "refused", /^the guest declines: .*ACCESS_PLATFORM/],
  ["viommu-strict/qemu-7.2/crosvm-backend", "refused", /^the VMM declines: IOMMU support requires/],
  ["viommu-strict/qemu-7.2/fix-own-bit", "stalls", /areas are not in the memory table/],
  ["hostile-ack/qemu-10.0/bit33-auto", "fails-to-start", /^contained: the used ring of queue 0 cannot be/],
  ["hostile-skip/qemu-10.0/bit33-auto", "exposes", /^rings at .* until the VMM gives the start up$/],
  ["viommu-strict/qemu-7.2/bit33-off", "refused", /^the device declines: queue 0 waits/],
  ["restricted-dma/crosvm-2022-07/linux-5.15", "fails-to-start", /SET_RUNNING gives -EFAULT/],
  ["viommu-strict/qemu-7.2-kernel/linux-5.10", "fails-to-start", /VHOST_SET_FEATURES gives -EOPNOTSUPP/],
  [
    "restricted-dma/qemu-7.2/bit33-on",
    "stalls",
    /a user address taken for an I\/O virtual one\) is asked for/,
  ],
  ["restricted-dma/crosvm-vhost-user/dpdk-like", "crashes", /^the VMM dies: .* IOTLB message: MISS/],
  ["restricted-dma/crosvm-vhost-user/crosvm-backend", "crashes", /^the device dies: .*SET_RUNNING/],
  ["viommu-strict/qemu-7.2/vhost-device-vsock", "fails-to-start", /^the device hangs up: SET_FEATURES/],
  ["restricted-dma/crosvm-vhost-user/vhost-device-vsock", "faults", /private memory/],
  ["viommu-lazy/qemu-7.2/bit33-auto", "corrupts", /a mapping that the guest has taken back/],
  ["hostile-ack/qemu-7.2/bit33-auto", "exposes", /though nothing is mapped/],
  ["hostile-skip/qemu-7.2/bit33-auto", "exposes", /though nothing is mapped/],
  ["hostile-ack/qemu-7.2/bit33-on", "stalls", /^contained: /],
  ["hostile-skip/qemu-7.2/bit33-on", "stalls", /^contained: /],
  ["hostile-ack/qemu-7.2-kernel/linux-6.12", "fails-to-start", /^contained: .*empty IOTLB/],
];

describe("a cell", () => {
  for (const [name, verdict, reason] of PROVOKED) {
    it(`${name}: ${verdict}`, async () => {
      const cell = await record(name);
      assert.equal(cell.verdict, verdict, cell.reason);
      assert.match(cell.reason, reason);
      const partings = cell.story.steps.filter(({ parting }) => parting === true);
      const isNobodyWrong = verdict === "works" || /^the (VMM|guest) declines: /.test(cell.reason);
      assert.equal(partings.length, isNobodyWrong ? 0 : 1);
      const { steps } = cell.story;
      assert.ok(
        !steps.some(({ text }, index) => text === steps[index + 1]?.text),
        "a line stands there twice",
      );
    });
  }

  it("comes with each verdict that there is", () => {
    const provoked = new Set(PROVOKED.map(([, verdict]) => verdict));
    assert.deepEqual(
      VERDICTS.filter((verdict) => !provoked.has(verdict)),
      [],
    );
  });

  it("that makes no sense says why instead of a verdict", async () => {
    for (const [name, reason] of [
      ["plain/crosvm-2022-07/bit33-auto", /reached by vhost-user, and crosvm-2022-07 drives kernel/],
      ["viommu-strict/libkrun/bit33-auto", /needs a vIOMMU in front of the device, and libkrun has none/],
      ["restricted-dma/libkrun/bit33-auto", /needs protected memory/],
    ] as const) {
      const cell = await run(name);
      assert.equal(cell.verdict, null);
      assert.match(cell.reason, reason);
    }
  });

  it("is the same record when it is run again, and names nothing of this process", async () => {
    for (const name of [
      "viommu-strict/qemu-7.2/bit33-auto",
      "viommu-lazy/qemu-7.2/dpdk-like",
      "restricted-dma/crosvm-2022-07/linux-5.15",
      "hostile-ack/qemu-7.2/bit33-on",
      "plain/openvmm/dpdk-like",
    ]) {
      const first = await record(name);
      assert.deepEqual(await record(name), first);
    }
  });

  it("leaves no descriptor open and no memory mapped, however often it is run", async () => {
    const names = PROVOKED.map(([name]) => name);
    const round = async (): Promise<void> => {
      for (const name of names) await record(name);
    };
    // Memory that is given back waits for the next of its size: the first round decides how much there is.
    await round();
    await round();
    const before = { descriptors: openDescriptors(), mapped: mappedKib() };
    for (let i = 0; i < 6; i++) await round();
    assert.equal(openDescriptors(), before.descriptors);
    const grown = mappedKib() - before.mapped;
    // A cell has 3 MiB, so a cell in ten would show; node's own heap moves by some MiB, more on a busy machine.
    assert.ok(grown < 32 * 1024, `after ${6 * names.length} more cells ${grown} KiB more are mapped`);
  });
});

describe("the story of the incident", () => {
  it("reads as its maintainers would tell it", async () => {
    const { story, reason, config, evidence } = await record("restricted-dma/crosvm-2022-07/linux-5.15");
    const texts = story.steps.map(({ actor, text, parting }) => `${parting ? ">> " : ""}${actor}: ${text}`);
    const order = [
      /^vmm: offers its guest .*with bit 33: .*memory is protected; the guest needs it for the DMA API/,
      /^guest: acknowledges .*bit 33 among it/,
      /^guest: use the DMA API and bounce through the shared pool/,
      /^device: offers .*with bit 33/,
      /^vmm: is to tell the device .*with bit 33: passed on as acknowledged/,
      /^vmm: a virtio feature like any other/,
      /^vmm: VHOST_SET_FEATURES/,
      /^>> device: IOTLB on, since bit 33 was acknowledged to it/,
      /^vmm: VHOST_SET_VRING_ADDR/,
      /^device: looks up the used ring of queue 0 at 0x7e\w+ \(a user address taken for an I\/O virtual one\)/,
      /^vmm: VHOST_VSOCK_SET_RUNNING.*EFAULT/,
      /^vmm: gives up/,
    ];
    let at = -1;
    for (const expected of order) {
      const next = texts.findIndex((text, index) => index > at && expected.test(text));
      assert.ok(next > at, `${expected} after step ${at + 1} of\n${texts.join("\n")}`);
      at = next;
    }
    assert.match(reason, /^VHOST_VSOCK_SET_RUNNING gives -EFAULT: the used ring .* in an empty IOTLB$/);
    assert.match(story.summary, /offered to the guest.*acknowledges it.*passed on.*IOTLB on.*-EFAULT/);
    assert.deepEqual(config, {
      protectedMemory: true,
      iommuPlatform: true,
      viommu: false,
      unmapping: "strict",
      transport: "kernel",
      deviceOptions: "",
    });
    assert.equal(evidence, "derived");
  });

  it("tells a question before its answer, and an answer before what it makes possible", async () => {
    const { steps } = (await record("viommu-strict/qemu-7.2/bit33-auto")).story;
    const at = [
      steps.findIndex(({ text }) => /^looks up the descriptor table of queue 1 .* no mapping is/.test(text)),
      steps.findIndex(({ text }) => /^asks: MISS .*; answer: mapped/.test(text)),
      steps.findLastIndex(({ text }) => /UPDATE iova=0xffffe000 .* → ok/.test(text)),
    ];
    const reached = steps.findIndex(({ text }) => /^reaches a buffer/.test(text));
    const [miss, update] = [
      steps.findLastIndex(({ text }, index) => index < reached && /MISS/.test(text)),
      reached - 1,
    ];
    assert.ok(at[0] >= 0 && at[0] < at[1] && at[1] < at[2], at.join());
    assert.match(steps[update].text, /^IOTLB_MSG .*UPDATE/);
    assert.ok(miss >= 0 && miss < update);
  });

  it("lets a device that waits for a message believe in its IOTLB only once that has come", async () => {
    const { steps } = (await record("passthrough/qemu-4.2/fix-first-message")).story;
    const believes = steps.findIndex(({ actor, kind }) => actor === "device" && kind === "belief");
    assert.match(steps[believes].text, /^IOTLB on, since .* an IOTLB message came/);
    assert.match(steps[believes - 1].text, /^write UPDATE/);
  });

  it("folds long stretches of questions and mappings", async () => {
    const { story } = await record("viommu-strict/qemu-7.2/bit33-auto");
    assert.ok(story.steps.length < 80, `${story.steps.length} steps`);
    assert.ok(story.steps.some(({ text }) => /^… \d+ more MISSes, \d+ more UPDATEs/.test(text)));
  });
});

function openDescriptors(): number {
  return readdirSync("/proc/self/fd").length;
}

/** All mappings but the collector's own heap, which grows and shrinks as it likes. */
function mappedKib(): number {
  const lines = readFileSync("/proc/self/maps", "utf8").split("\n");
  const shared = lines.filter(
    (line) => line.includes("/memfd:") || /^\S+ rw-p 00000000 00:00 0 *$/.test(line),
  );
  const sizes = shared.map((line) => {
    const [start, end] = line.split(" ")[0].split("-");
    return (Number.parseInt(end, 16) - Number.parseInt(start, 16)) / 1024;
  });
  return sizes.reduce((sum, size) => sum + size, 0);
}

describe("the canary of a cell behind a vIOMMU", () => {
  it("is looked at by each of its addresses on each ring, over the two orders", async () => {
    const seen = new Set<string>();
    for (const canaryOrder of ["guest-physical-first", "user-first"] as const) {
      const profiles = [
        builtinGuest("viommu-strict"),
        builtinVmm("qemu-10.0"),
        builtinDevice("bit33-auto"),
      ] as const;
      const run = new CellRun(...profiles, { ...MODELLED, canaryOrder });
      await run.play();
      const { witness, canary } = run.facts();
      assert.deepEqual(canary, { cameOut: false, changed: false });
      for (const { address, access } of witness.missing.values())
        seen.add(`${address < 2n ** 40n ? "guest-physical" : "user"} address, access ${access}`);
      run.close();
    }
    assert.deepEqual([...seen].sort(), [
      "guest-physical address, access 1",
      "guest-physical address, access 2",
      "user address, access 1",
      "user address, access 2",
    ]);
  });
});
