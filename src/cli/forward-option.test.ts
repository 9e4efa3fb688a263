/** `forward` in the three notations, which mean the same and refuse the same. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ConfigError } from "../config/errors.js";
import { readServeRequest } from "./serve-options.js";

const folder = mkdtempSync(join(tmpdir(), "bit33-forward-"));
after(() => rmSync(folder, { recursive: true }));

const socket = join(folder, "vm.sock");
const udsPath = join(folder, "vm.vsock");
const file = join(folder, "vms.yaml");

function yaml(lines: string): string[] {
  writeFileSync(file, `vms:\n  - socket: ${socket}\n    uds_path: ${udsPath}\n${lines}`);
  return ["--config", file];
}

describe("forward", () => {
  it("may be repeated, in options, in --vm and as a list in the file", async () => {
    const [ssh, web] = ["22=tcp:127.0.0.1:2222", "80=unix:/run/web.sock"];
    const expected = [
      { hostPort: 22, target: { kind: "tcp", address: "127.0.0.1", port: 2222 } },
      { hostPort: 80, target: { kind: "unix", path: "/run/web.sock" } },
    ];
    for (const argv of [
      ["--socket", socket, "--uds-path", udsPath, "--forward", ssh, `--forward=${web}`],
      ["--vm", `socket=${socket},uds-path=${udsPath},forward=${ssh},forward=${web}`],
      yaml(`    forward:\n      - ${ssh}\n      - ${web}\n`),
    ]) {
      const { configs } = await readServeRequest(argv);
      assert.deepEqual(configs[0].forwards, expected);
    }
    const { configs } = await readServeRequest(yaml(`    forward: ${web}\n`));
    assert.deepEqual(configs[0].forwards, [expected[1]]);
  });

  it("that is wrong is named by its place", async () => {
    const cases: [string[], string][] = [
      [["--socket", socket, "--uds-path", udsPath, "--forward", "22"], "--forward"],
      [["--vm", `socket=${socket},uds-path=${udsPath},forward=22`], "--vm #1 (forward)"],
      [yaml("    forward:\n      - 22=unix:a\n      - 23\n"), `${file}:6:9`],
    ];
    for (const [argv, where] of cases)
      await assert.rejects(
        readServeRequest(argv),
        (error) => error instanceof ConfigError && error.where === where,
        where,
      );
  });
});
