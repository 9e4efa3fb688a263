/**
 * Every case against this project's device, one session after another in one process, as the kept report says. Beside
 * the report, which has a fresh process for each case, this shows that nothing is left behind by any.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { CASES, runCases } from "../../src/conformance/index.js";
import { FIRST_CID, Rig } from "../device/rig.js";
import { kept, keptReport, SUBJECTS, verdicts } from "./kept-reports.js";

it("this project's device keeps every rule, as the kept report says", { timeout: 600_000 }, async () => {
  const rig = await Rig.start();
  try {
    const [{ socketPath }] = rig.configs;
    const results = await runCases(CASES, {
      // Nothing is to fail, so nothing waits for so long; but the machine may be busy.
      target: {
        socketPath: String(socketPath),
        udsPath: rig.udsPath(),
        guestCid: FIRST_CID,
        patienceMs: 10_000,
      },
    });
    for (const { case: one, status, detail, seen } of results)
      assert.equal(status, "passed", [`${one.id}: ${detail}`, ...seen].join("\n"));
    assert.deepEqual(verdicts(results.map(kept)), verdicts(keptReport(SUBJECTS.ours)));
  } finally {
    await rig.close();
  }
});
