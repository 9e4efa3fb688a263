/**
 * `npm run conform:reports`: runs every case against this project's device and against vhost-device-vsock as installed
 * by `npm run setup:peers`, keeps the results in docs/conformance/, and writes the page about them.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { CASES, runCases } from "../../src/conformance/index.js";
import { CONFORMANCE_PAGE, conformancePage } from "../conformance-page.js";
import { whatPeerIsMissing } from "../peers/paths.js";
import { root } from "../vm/paths.js";
import { kept, SUBJECTS } from "./kept-reports.js";

/** More than the usual: what is kept is not to depend on what else the machine does. */
const PATIENCE_MS = 5000;

const missing = whatPeerIsMissing();
if (missing !== undefined) {
  console.error(`${missing}. "npm run setup:peers" installs it.`);
  process.exit(1);
}
for (const { name, file, localCommand } of Object.values(SUBJECTS)) {
  const folder = mkdtempSync(join(tmpdir(), "bit33-conform-"));
  const results = await runCases(CASES, {
    target: {
      socketPath: join(folder, "vhost"),
      udsPath: join(folder, "vsock"),
      guestCid: 3,
      patienceMs: PATIENCE_MS,
    },
    command: localCommand,
    onResult: ({ case: { id }, status, detail }) => {
      if (status === "failed") console.log(`${name}: ${id}: ${detail}`);
    },
  });
  rmSync(folder, { recursive: true, force: true });
  const lines = results.map((result) => JSON.stringify(kept(result)));
  writeFileSync(join(root, file), `${lines.join("\n")}\n`);
  console.log(`${name}: ${results.length} cases`);
}
writeFileSync(join(root, CONFORMANCE_PAGE), conformancePage());
