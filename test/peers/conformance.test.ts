/** vhost-device-vsock keeps and breaks the rules that the kept conformance report says. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { it } from "node:test";
import { CASES, runCases } from "../../src/conformance/index.js";
import { kept, keptReport, SUBJECTS, verdicts } from "../conformance/kept-reports.js";

it("vhost-device-vsock keeps and breaks what its report says", { timeout: 600_000 }, async () => {
  const folder = mkdtempSync(join(tmpdir(), "bit33-conform-"));
  try {
    const results = await runCases(CASES, {
      target: {
        socketPath: join(folder, "vhost"),
        udsPath: join(folder, "vsock"),
        guestCid: 3,
        patienceMs: 5000,
      },
      command: SUBJECTS.peer.localCommand,
    });
    assert.deepEqual(verdicts(results.map(kept)), verdicts(keptReport(SUBJECTS.peer)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
