/**
 * The program as a user meets it: a process, its streams and its exit status.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { socketPair } from "../linux/unix-socket.js";

const PROGRAM = fileURLToPath(new URL("./main.js", import.meta.url));

const directory = mkdtempSync(join(tmpdir(), "bit33-main-"));
after(() => rmSync(directory, { recursive: true }));

function bit33(...argv: string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, ...argv], { encoding: "utf8" });
  return { status, stdout, stderr };
}

/** Exit status 2, nothing on standard output, one line on standard error. */
function refuses(argv: string[], line: string) {
  assert.deepEqual(bit33(...argv), { status: 2, stdout: "", stderr: `bit33: ${line}\n` });
}

describe("bit33", () => {
  it("without a command says where the commands are", () => {
    refuses([], "no command is given; bit33 --help lists them");
  });

  it("refuses a command that does not exist, with the nearest that does", () => {
    refuses(["srve"], 'unknown command "srve"; did you mean serve?');
    refuses(["constructor"], 'unknown command "constructor"; bit33 --help lists the commands');
  });

  it("lists its commands and options on request", () => {
    const { status, stdout, stderr } = bit33("--help");
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^ {2}serve {2,}\S/m);
    assert.match(stdout, /^ {2}demo {2,}\S/m);
    assert.match(stdout, /^ {2}compat {2,}\S/m);
    assert.match(stdout, /^ {2}features {2,}\S/m);
    assert.match(stdout, /^ {2}-V, --version {2,}\S/m);
  });

  it("prints its version", () => {
    assert.match(bit33("--version").stdout, /^bit33 \d+\.\d+\.\d+\n$/);
  });

  it("called with options alone is a vhost-user back-end program", () => {
    const { status, stdout } = bit33("--print-capabilities");
    assert.equal(status, 0);
    assert.equal(JSON.parse(stdout).type, "vsock");
    refuses(["--sokcet=x"], "unknown option --sokcet; did you mean --socket?");
  });

  it("explains a command", () => {
    const { status, stdout } = bit33("serve", "--help");
    assert.equal(status, 0);
    assert.match(stdout, /^Usage: bit33 serve --guest-cid CID --socket PATH --uds-path PATH/m);
  });

  it("ends a mistake in a configuration file with its line and column", () => {
    const file = join(directory, "vms.yaml");
    writeFileSync(file, "vms:\n  - socket: s\n    uds_path: u\n    queue_size: many\n");
    refuses(["serve", "--config", file], `${file}:4:17: "many" is not a whole number`);
  });

  it("keeps to one line whatever it was given", () => {
    refuses(
      ["serve", "--vm", "a\nb=c"],
      '--vm #1: unknown key "a\\nb"; the keys are guest-cid, socket, uds-path, tx-buffer-size, queue-size, ' +
        "groups, iotlb, iotlb-explicit-bit, access-platform, seqpacket, uds-mode, uds-group, forward, listen, max-connections, " +
        "total-buffer-size, connect-timeout-ms, handshake-timeout-ms, shutdown-timeout-ms, probation-ms",
    );
    refuses(["serve", "--a\u001b[31m"], "unknown option --a\\u001b[31m; --help lists the options");
  });

  it("survives a reader that goes away", () => {
    const script = `"$0" "$1" --help | true; exit "\${PIPESTATUS[0]}"`;
    const { status, stderr } = spawnSync("bash", ["-c", script, process.execPath, PROGRAM], {
      encoding: "utf8",
    });
    assert.deepEqual([status, stderr], [0, ""]);
  });

  it("does not end well if its answer is lost", () => {
    const script = `"$0" "$1" features --list > /dev/full`;
    const { status, stderr } = spawnSync("bash", ["-c", script, process.execPath, PROGRAM], {
      encoding: "utf8",
    });
    assert.equal(stderr, "bit33: standard output takes no more (ENOSPC); a part is missing\n");
    assert.equal(status, 1);
  });

  it("takes an inherited socket for --fd, and then no socket path", (t) => {
    const [inherited, other] = socketPair();
    t.after(() => [inherited, other].forEach(closeSync));
    const argv = ["--fd=3", "--socket-path=s", `--uds-path=${join(directory, "u")}`];
    const { status, stderr } = spawnSync(process.execPath, [PROGRAM, ...argv], {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe", inherited],
    });
    const line =
      "bit33: --socket-path: a socket path cannot be combined with --fd 3, which is the vhost-user socket " +
      "already; leave one out\n";
    assert.deepEqual([status, stderr], [2, line]);
  });
});
