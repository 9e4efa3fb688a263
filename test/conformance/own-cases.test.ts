/** Cases of one's own: the example of the documentation runs, from a folder outside of this tree, as a user's does. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { root } from "../vm/paths.js";

const PROGRAM = join(root, "build/src/cli/main.js");
const EXAMPLE = "conformance-cases.mjs";

describe("cases of one's own", () => {
  let folder: string;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "bit33-own-"));
    mkdirSync(join(folder, "node_modules"));
    symlinkSync(root, join(folder, "node_modules/bit33"));
    copyFileSync(join(root, "examples", EXAMPLE), join(folder, EXAMPLE));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function conform(...argv: string[]) {
    const serve = `exec ${process.execPath} ${PROGRAM} serve --guest-cid {cid} --socket {socket} --uds-path {uds}`;
    const args = ["conform", "--socket", join(folder, "s"), "--uds-path", join(folder, "u"), "--exec", serve];
    return spawnSync(process.execPath, [PROGRAM, ...args, ...argv], { encoding: "utf8", cwd: folder });
  }

  it("run beside the built-in ones, and are reported like them", () => {
    const argv = ["--cases", EXAMPLE, "--pick", "mine.*", "--pick", "session.features", "--json"];
    const { status, stdout, stderr } = conform(...argv, "--junit", "results.xml");
    assert.equal(status, 0, stdout + stderr);
    const results = stdout
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      results.map(({ id, status: result }) => [id, result]),
      [
        ["session.features", "passed"],
        ["mine.pause", "passed"],
      ],
    );
    assert.match(stderr, /^2 passed, 0 failed, 0 skipped$/m);
    assert.match(
      readFileSync(join(folder, "results.xml"), "utf8"),
      /<testsuite name="mine" tests="1" failures="0"/,
    );
    assert.ok(!existsSync(join(folder, "s")) && !existsSync(join(folder, "u")), "the sockets are gone");
  });

  it("never cost a file that happens to have the socket's name", () => {
    writeFileSync(join(folder, "s"), "precious");
    const { status, stdout } = conform("--pick", "session.features");
    assert.equal(status, 1);
    assert.match(stdout, /is there and is no socket/);
    assert.equal(readFileSync(join(folder, "s"), "utf8"), "precious");
    rmSync(join(folder, "s"));
  });

  it("the documentation shows the example as it is", () => {
    const example = readFileSync(join(root, "examples", EXAMPLE), "utf8");
    const code = example.slice(example.indexOf("\n") + 1);
    assert.ok(readFileSync(join(root, "docs/conformance/README.md"), "utf8").includes(code));
  });
});
