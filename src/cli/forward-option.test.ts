/** `forward` and `listen` in the three notations, which mean the same and refuse the same. */
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

describe("listen", () => {
  it("may be repeated, in options, in --vm and as a list in the file", async () => {
    const [ssh, web] = ["tcp:[::1]:2222=22", "unix:/run/a=b=80"];
    const expected = [
      { source: { kind: "tcp", address: "::1", port: 2222 }, guestPort: 22 },
      { source: { kind: "unix", path: "/run/a=b" }, guestPort: 80 },
    ];
    for (const argv of [
      ["--socket", socket, "--uds-path", udsPath, "--listen", ssh, `--listen=${web}`],
      ["--vm", `socket=${socket},uds-path=${udsPath},listen=${ssh},listen=${web}`],
      yaml(`    listen:\n      - ${ssh}\n      - ${web}\n`),
    ]) {
      const { configs } = await readServeRequest(argv);
      assert.deepEqual(configs[0].listens, expected);
    }
  });

  it("that is wrong is refused, and named by its place", async () => {
    const cases: [string, RegExp][] = [
      ["22", /^--listen: "22" cannot be used; write tcp:ADDRESS:PORT=GUESTPORT or unix:PATH=GUESTPORT/],
      ["tcp:127.0.0.1:80=x", /^--listen: "x" cannot be used; give the guest's port, 0 to 4294967294/],
      ["tcp:127.0.0.1:80=4294967295", /give the guest's port/],
      ["tcp:127.0.0.1:65536=1", /with a port from 0 to 65535/],
      ["tcp:example.org:1=1", /names are not looked up/],
      ["unix:=1", /give the path of a Unix socket/],
      ["exec:cat=1", /what to listen on begins with tcp: or unix:/],
      [`unix:${join(folder, "none", "x")}=1`, /^--listen: the directory ".*" does not exist/],
      [`unix:${udsPath}=1`, /^--listen: .* is given twice, first by --uds-path/],
      [`unix:${udsPath}_80=1`, /would reach ".*" by connecting to port 80/],
    ];
    for (const [text, line] of cases)
      await assert.rejects(
        readServeRequest(["--socket", socket, "--uds-path", udsPath, "--listen", text]),
        (error) => {
          assert.ok(error instanceof ConfigError);
          assert.match(error.line, line);
          return true;
        },
        text,
      );
  });
});
