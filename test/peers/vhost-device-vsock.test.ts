/**
 * The column of vhost-device-vsock against the real program: each cell that applies is played with it in the device's
 * place, in real time, and has to end as the matrix says.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runCell } from "../../src/compat/cell.js";
import { CellRun } from "../../src/compat/cell-run.js";
import { type Judgement, judge } from "../../src/compat/judge.js";
import type { Verdict } from "../../src/compat/record.js";
import { builtinDevice, builtinProfiles } from "../../src/profiles/builtin.js";
import type { GuestProfile } from "../../src/profiles/guest-profile.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { whatPeerIsMissing } from "./paths.js";
import { PeerProcess, ProgramEnd } from "./program-end.js";
import { RealLoops } from "./real-loops.js";

const missing = whatPeerIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:peers installs it`);

const device = builtinDevice("vhost-device-vsock");
const { guests, vmms } = builtinProfiles();

/**
 * The matrix denies a device the guest's private memory, as a hypervisor does, and finds that it was touched. Nobody
 * denies the real program anything and nobody watches it: reaching those rings, it serves them. Nor does anybody see
 * what it reaches before a VMM gives the start up; what came out by a canary is seen.
 */
const UNWATCHED: Partial<Record<Verdict, Verdict>> = { faults: "works" };

/** A guest gives up after 2 s, as Linux does: on a busy machine the program may not have had its turn by then. */
const ATTEMPTS = 3;

/** What comes out with the real program, and what is to: the matrix's verdict, or what can be seen of it. */
async function played(
  guest: GuestProfile,
  vmm: VmmProfile,
  verdict: Verdict,
): Promise<{ seen: Judgement; expected: Verdict }> {
  const peer = await PeerProcess.start();
  const run = new CellRun(guest, vmm, device, {
    makeLoops: () => new RealLoops(),
    openDevice: (parts) => new ProgramEnd(peer, parts),
  });
  try {
    await run.play();
    const facts = run.facts();
    const isGivenUp = verdict === "exposes" && facts.startFailure !== undefined;
    return { seen: judge(facts), expected: isGivenUp ? "fails-to-start" : (UNWATCHED[verdict] ?? verdict) };
  } finally {
    run.close();
    peer.stop();
  }
}

for (const guest of guests) {
  for (const vmm of vmms) {
    const cell = await runCell(guest, vmm, device);
    const { verdict } = cell;
    if (verdict === null) continue;
    test(`${guest.name}/${vmm.name} with the real program: ${verdict}`, async () => {
      for (let attempt = 1; ; attempt++) {
        const { seen, expected } = await played(guest, vmm, verdict);
        if (seen.verdict === "stalls" && expected !== "stalls" && attempt < ATTEMPTS) continue;
        assert.equal(seen.verdict, expected, `${seen.reason}; the matrix: ${cell.reason}`);
        break;
      }
    });
  }
}
