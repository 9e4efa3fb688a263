/**
 * `bit33 observe` against real QEMU with a real guest, with and without a vIOMMU, through the command line: what it
 * writes must be the built-in profile, as far as a socket shows it.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { claimSocket, releaseSocket } from "../../src/device/claim-socket.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import { factsOf } from "../../src/observe/facts.js";
import { type FieldName, fieldOf } from "../../src/observe/fields.js";
import { isSame, isSameSet } from "../../src/observe/finding.js";
import { findingsOf } from "../../src/observe/findings.js";
import { playsFor } from "../../src/observe/offers.js";
import { playSession } from "../../src/observe/play-session.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { readProfileOf } from "../../src/profiles/schema/index.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { F, mask } from "../../src/virtio/index.js";
import { bareQemu } from "./bare-qemu.js";
import { whatIsMissing } from "./paths.js";
import { patienceMs } from "./waiting.js";

const missing = whatIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm prepares the guests`);

const MAIN = join(dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");
const PROFILE = "qemu-7.2";

/** As observe wants them: the bit is offered to the guest, and unmapping is strict. */
function qemu(socket: string, { device = "", more = "" }: { device?: string; more?: string } = {}): string {
  return bareQemu(socket, { device: `,iommu_platform=on${device}`, more, append: "iommu.strict=1" });
}

interface FieldRecord {
  readonly kind: "session" | "field";
  readonly field: FieldName;
  readonly certainty: "seen" | "fits" | "not-seen";
  readonly fits?: readonly unknown[];
}

function bit33(args: readonly string[]): Promise<{ status: number | null; out: string; err: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [MAIN, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (part) => {
      out += part;
    });
    child.stderr.on("data", (part) => {
      err += part;
    });
    child.on("close", (status) => resolve({ status, out, err }));
  });
}

describe("observing QEMU 7.2", () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "b33-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("writes the built-in profile, as far as anything on the socket shows it", async () => {
    const socket = join(folder, "o");
    const file = join(folder, "observed.yaml");
    const viommu = qemu(socket, { more: "-device virtio-iommu-pci" });
    const { status, out, err } = await bit33([
      ...["observe", "--socket", socket, "--exec", qemu(socket), "--exec-viommu", viommu],
      ...["--name", PROFILE, "--out", file, "--json", "--timeout", String(patienceMs / 1000)],
    ]);
    assert.equal(status, 0, err);
    const records = out
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as FieldRecord);
    const observed = readProfileOf("vmm", readFileSync(file, "utf8"), file);
    const fields = records.filter(({ kind }) => kind === "field");
    const seen = fields.filter(({ certainty }) => certainty === "seen").map(({ field }) => field);
    assert.deepEqual(
      seen.filter((field) => !isEqual(field, observed, builtinVmm(PROFILE))),
      [],
    );
    assert.deepEqual(
      fields.filter(({ certainty }) => certainty === "not-seen").map(({ field }) => field),
      [
        "machine.protectedMemory",
        // Nothing came back un-offered; QEMU answers a MISS whether or not there is a vIOMMU.
        "offer.own",
        "backendFeatures",
        "iotlb.enablesBit",
        "iotlb.unmappedUsedRing",
        "iotlb.unexpectedMiss",
      ],
    );
    partlySeen(observed, builtinVmm(PROFILE));
    assert.equal(existsSync(socket), false, "the socket is removed");
  });

  it("sees that RING_PACKED reaches a back-end that never offered it", async () => {
    const socket = claimSocket(join(folder, "p"));
    const loop = new EventLoop();
    try {
      const minimal = playsFor({ viommu: false }).find(({ offer }) => offer.id === "minimal");
      assert.ok(minimal);
      const command = qemu(socket.path, { device: ",packed=on" });
      const record = await playSession({
        ...minimal,
        ...{ number: 1, listener: socket.fd, loop, command, timeoutMs: patienceMs },
      });
      const findings = findingsOf([factsOf(record)], undefined);
      const { because: _own, ...own } = findings["offer.own"];
      const bit30And33 = mask(F.PROTOCOL_FEATURES) | mask(F.ACCESS_PLATFORM);
      assert.deepEqual(own, { kind: "bits", ones: mask(F.RING_PACKED), zeros: bit30And33 });
      const { because: _masked, ...masked } = findings["acknowledge.maskedByDevice"];
      assert.deepEqual(masked, { kind: "choice", values: [false] });
    } finally {
      releaseSocket(socket);
      loop.close();
    }
  });
});

function isEqual(field: FieldName, one: VmmProfile, other: VmmProfile): boolean {
  const [a, b]: unknown[] = [fieldOf(field, one), fieldOf(field, other)];
  // Their order says nothing.
  if (field === "refuses" || field === "needReply") return isSameSet(a as unknown[], b as unknown[]);
  return isSame(a, b);
}

/** What is not certain, or not to the last bit. */
function partlySeen(observed: VmmProfile, builtin: VmmProfile): void {
  assert.equal(observed.protocolFeatures, builtin.protocolFeatures);
  assert.equal(observed.offer.bit33, builtin.offer.bit33);
  // Whatever the guest knows; Linux knows no NOTIFY_ON_EMPTY.
  assert.equal(observed.offer.passed, builtin.offer.passed & ~mask(F.NOTIFY_ON_EMPTY));
  assert.equal(observed.acknowledge.masks, builtin.acknowledge.masks);
  assert.equal(observed.acknowledge.adds, builtin.acknowledge.adds);
  assert.notEqual(observed.iotlb.invalidates, "never");
}
