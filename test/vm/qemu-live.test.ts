/**
 * The profile of QEMU 7.2 against QEMU 7.2: real machines with real guests, and a back-end of ours that writes down what
 * it is told. The player that the cells of the matrix use has to say the same up to the start of the rings, and what
 * comes afterwards has to be what the profile says of IOTLB messages.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { claimSocket, releaseSocket } from "../../src/device/claim-socket.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { playSession } from "../../src/observe/play-session.js";
import type { SessionRecord } from "../../src/observe/transcript.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { IOTLB_TYPE, type Message } from "../../src/vhost/wire/index.js";
import { conversationOf, saidIn } from "../qemu/conversation.js";
import { expected } from "../qemu/deviations.js";
import { played } from "../qemu/player-session.js";
import { recordings, type Situation } from "../qemu/recordings.js";
import { type BareMachine, bareQemu } from "./bare-qemu.js";
import { whatIsMissing } from "./paths.js";
import { patienceMs } from "./waiting.js";

const missing = whatIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm prepares the guests`);

/** More than any buffer of the driver, and less than a flush of everything. */
const MOST_BYTES = 65536n;
const profile = builtinVmm("qemu-7.2");

interface Live {
  readonly name: string;
  readonly qemu: BareMachine;
  readonly iommuPlatform: boolean;
  readonly viommu: boolean;
  /** What has to reach the back-end of the guest's unmapping. */
  readonly invalidations: "none" | "pages" | "no-flush";
}

const LIVE: readonly Live[] = [
  { name: "plain", qemu: {}, iommuPlatform: false, viommu: false, invalidations: "none" },
  {
    name: "iommu_platform=on without a vIOMMU",
    qemu: { device: ",iommu_platform=on" },
    iommuPlatform: true,
    viommu: false,
    invalidations: "none",
  },
  {
    name: "virtio-iommu, strict",
    qemu: { device: ",iommu_platform=on", more: "-device virtio-iommu-pci", append: "iommu.strict=1" },
    iommuPlatform: true,
    viommu: true,
    invalidations: "pages",
  },
  {
    // "strict-only" in the profile: a page may be told, the flush of everything that was put off never is.
    name: "intel-iommu, lazy",
    qemu: {
      device: ",iommu_platform=on,ats=on",
      machine: ",kernel-irqchip=split",
      more: "-device intel-iommu,intremap=on,device-iotlb=on",
    },
    iommuPlatform: true,
    viommu: true,
    invalidations: "no-flush",
  },
];

for (const { name, qemu, iommuPlatform, viommu, invalidations } of LIVE) {
  test(`QEMU 7.2 live, ${name}: the profile says the same`, async () => {
    const machine = { iommuPlatform, viommu, protectedMemory: false };
    const situation = { ...offerOfRecordings(), name: `QEMU 7.2 live, ${name}`, machine };
    const record = await live(situation, qemu);
    assert.equal(record.outcome, "started", record.says);
    const heard = heardIn(record);
    const said = conversationOf(saidIn(heard));
    const ours = conversationOf(played(profile, situation));
    assert.deepEqual(ours.before, expected(situation.name, "before", said.before));
    assert.deepEqual(ours.start, expected(situation.name, "start", said.start));
    assert.ok(record.transcript.marks.some(({ mark }) => mark === "guest-answered"));
    const iotlb = heard.flatMap(({ payload }) => (payload.kind === "iotlb" ? [payload] : []));
    assert.equal(
      iotlb.some(({ type }) => type === IOTLB_TYPE.UPDATE),
      viommu,
    );
    const sizes = iotlb.filter(({ type }) => type === IOTLB_TYPE.INVALIDATE).map(({ size }) => size);
    if (invalidations !== "no-flush") assert.equal(sizes.length > 0, invalidations === "pages");
    assert.deepEqual(
      sizes.filter((size) => size > MOST_BYTES),
      [],
    );
  });
}

/** What QEMU said, but for its answer to a question that makes no sense without a vIOMMU, which comes last. */
function heardIn({ transcript }: SessionRecord): Message[] {
  const nonsense = transcript.marks.find(({ mark }) => mark === "sent-unexpected-miss");
  return transcript.entries
    .slice(0, nonsense?.after)
    .filter(({ on, from }) => on === "socket" && from === "front-end")
    .map(({ message }) => message);
}

/** What the back-end of the recordings offered. */
function offerOfRecordings(): Pick<Situation, "features" | "protocolFeatures"> {
  const [{ features, protocolFeatures }] = recordings();
  return { features, protocolFeatures };
}

async function live({ features, protocolFeatures }: Situation, qemu: BareMachine): Promise<SessionRecord> {
  const folder = mkdtempSync(join(tmpdir(), "b33-"));
  const socket = claimSocket(join(folder, "q"));
  const loop = new EventLoop();
  try {
    return await playSession({
      offer: { id: "everything", title: "as recorded", features, protocolFeatures, until: "traffic" },
      machine: "plain",
      number: 1,
      listener: socket.fd,
      loop,
      command: bareQemu(socket.path, qemu),
      timeoutMs: patienceMs,
    });
  } finally {
    releaseSocket(socket);
    loop.close();
    rmSync(folder, { recursive: true, force: true });
  }
}
