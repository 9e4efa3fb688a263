/**
 * Observes the players of built-in VMM profiles, each as a program of its own: what is found must allow what the profile
 * says, and must say it where nothing else fits.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { claimSocket, releaseSocket } from "../../src/device/claim-socket.js";
import { DRIVER_FEATURES } from "../../src/guest/features.js";
import { EventLoop } from "../../src/linux/event-loop.js";
import type { SessionFacts } from "../../src/observe/facts.js";
import { FIELD_NAMES, type FieldName, fieldOf } from "../../src/observe/fields.js";
import { allows, isSameSet } from "../../src/observe/finding.js";
import { type Findings, findingsOf } from "../../src/observe/findings.js";
import { observe } from "../../src/observe/observe.js";
import { observedProfile, writeObserved } from "../../src/observe/observed-profile.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { readProfileOf } from "../../src/profiles/schema/index.js";
import type { Refusal, VmmProfile } from "../../src/profiles/vmm-profile.js";

const PLAYER = fileURLToPath(new URL("player.js", import.meta.url));
const TIMEOUT_MS = 30_000;

interface Observed {
  /** A built-in profile, and the guests of the two machines; no second one where the VMM has no vIOMMU. */
  readonly name: string;
  readonly guest: string;
  readonly viommuGuest?: string;
  /** Fields that this machine cannot decide: more than one value fits, or nothing shows it. */
  readonly open: readonly FieldName[];
}

/** What no socket shows, of any VMM. */
const NEVER_CERTAIN = [
  "machine.protectedMemory",
  "offer.own",
  "acknowledge.maskedByDevice",
  "backendFeatures",
  "iotlb.enables",
  "iotlb.enablesBit",
  "iotlb.unmappedUsedRing",
] as const satisfies readonly FieldName[];
/** Without a machine with a vIOMMU. */
const NOTHING_TRANSLATED = [
  "machine.viommu",
  "iotlb.serves",
  "iotlb.translates",
  "iotlb.invalidates",
] as const satisfies readonly FieldName[];

const OBSERVED: readonly Observed[] = [
  {
    name: "qemu-7.2",
    guest: "restricted-dma",
    viommuGuest: "viommu-strict",
    open: ["offer.bit33", "iotlb.invalidates", "iotlb.unexpectedMiss"],
  },
  {
    name: "qemu-10.0",
    guest: "restricted-dma",
    viommuGuest: "viommu-strict",
    open: ["offer.bit33", "iotlb.invalidates", "iotlb.unexpectedMiss"],
  },
  {
    name: "crosvm-vhost-user",
    guest: "restricted-dma",
    // CONFIGURE_MEM_SLOTS is not taken.
    open: [...NOTHING_TRANSLATED, "offer.bit33", "acknowledge.bit33", "memory"],
  },
  {
    name: "cloud-hypervisor",
    guest: "restricted-dma",
    open: [...NOTHING_TRANSLATED, "offer.bit33", "acknowledge.bit33"],
  },
  {
    name: "libkrun",
    guest: "restricted-dma",
    // Nor that, nor BACKEND_REQ.
    open: [...NOTHING_TRANSLATED, "offer.bit33", "acknowledge.bit33", "memory", "iotlb.unexpectedMiss"],
  },
  {
    name: "alioth-vhost-user",
    guest: "restricted-dma",
    open: [...NOTHING_TRANSLATED, "offer.bit33", "iotlb.unexpectedMiss"],
  },
  {
    name: "openvmm",
    guest: "restricted-dma",
    open: [...NOTHING_TRANSLATED, "offer.bit33", "acknowledge.bit33", "memory", "iotlb.unexpectedMiss"],
  },
];

async function sessionsOf({ name, guest, viommuGuest }: Observed): Promise<SessionFacts[]> {
  const folder = mkdtempSync(join(tmpdir(), "b33-observe-"));
  const socket = claimSocket(join(folder, "s"));
  const loop = new EventLoop();
  const command = (of: string): string => `exec ${process.execPath} ${PLAYER} ${name} ${of} ${socket.path}`;
  try {
    return await observe({
      listener: socket.fd,
      loop,
      command: command(guest),
      viommuCommand: viommuGuest && command(viommuGuest),
      timeoutMs: TIMEOUT_MS,
    });
  } finally {
    releaseSocket(socket);
    loop.close();
    rmSync(folder, { recursive: true });
  }
}

/** Fields that the findings leave open. Feature words are never decided to the last bit, so they are not among them. */
function openFields(findings: Findings): FieldName[] {
  return FIELD_NAMES.filter((name) => {
    const finding = findings[name];
    return finding.kind === "unseen" || (finding.kind === "choice" && finding.values.length > 1);
  });
}

/** Everything that was seen, in the words of the profile, so that a difference shows where it is. */
function contradictions(findings: Findings, profile: VmmProfile): string[] {
  return FIELD_NAMES.filter((name) => !isAllowed(name, findings, profile)).map(
    (name) =>
      `${name}: ${JSON.stringify(findings[name], (_key, part) => (typeof part === "bigint" ? `${part}` : part))}`,
  );
}

function isAllowed(name: FieldName, findings: Findings, profile: VmmProfile): boolean {
  const finding = findings[name];
  const value = name === "refuses" ? refusalsOf(profile) : fieldOf(name, profile);
  if (finding.kind !== "choice" || !Array.isArray(value) || name === "order" || name === "earlyRings")
    return allows<unknown>(finding, value);
  return finding.values.some((each) => isSameSet(each as unknown[], value));
}

/** Every player needs the configuration space, for the guest's context id, whatever its VMM would do without one. */
function refusalsOf({ refuses }: VmmProfile): readonly Refusal[] {
  if (refuses.some(({ when }) => when.length === 1 && when[0] === "device-lacks-config")) return refuses;
  const says = "the back-end gives no access to its configuration space";
  return [...refuses, { when: ["device-lacks-config"], says, at: "initialization" }];
}

describe("observing the player of a built-in profile", { concurrency: 2 }, () => {
  for (const observed of OBSERVED) {
    it(`${observed.name}: finds what the profile says`, async () => {
      const profile = builtinVmm(observed.name);
      const sessions = await sessionsOf(observed);
      const findings = findingsOf(sessions, undefined);
      assert.deepEqual(contradictions(findings, profile), []);
      assert.deepEqual(openFields(findings).sort(), [...NEVER_CERTAIN, ...observed.open].sort());
      const passed = findings["offer.passed"];
      assert.ok(passed.kind === "bits" && passed.ones === (profile.offer.passed & DRIVER_FEATURES));
      const again = observedProfile(findingsOf(sessions, profile), headOf(profile), profile);
      const expected = { ...profile, evidence: "executed", refuses: refusalsOf(profile) };
      assert.deepEqual(again.profile, expected, "with the profile as the base");
      const text = writeObserved(again, ["a test's"]);
      assert.deepEqual(readProfileOf("vmm", text, "the written file"), again.profile);
    });
  }
});

function headOf({ name, program, summary, source }: VmmProfile) {
  return { name, program, summary, source };
}
