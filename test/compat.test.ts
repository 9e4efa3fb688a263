/**
 * `bit33 compat` as a user meets it: the real program, the real engine, files in and out. What the cells say is tested
 * beside the engine; here it is that they arrive.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { root } from "./vm/paths.js";

const PROGRAM = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "bit33-compat-"));
after(() => rmSync(folder, { recursive: true }));

function bit33(...argv: string[]) {
  const env = { PATH: process.env.PATH, EMAIL: "Ada <ada@example.org>" };
  const { status, stdout, stderr } = spawnSync(process.execPath, [PROGRAM, "compat", ...argv], {
    encoding: "utf8",
    env,
  });
  return { status, stdout, stderr };
}

/** The file that `--dump` prints. */
function dumped(name: string): string {
  const { status, stdout } = bit33("--dump", name);
  assert.equal(status, 0);
  const path = join(folder, `${name}.yaml`);
  writeFileSync(path, stdout);
  return path;
}

const INCIDENT = "restricted-dma/crosvm-2022-07/linux-5.15";
const CHANGE = [
  "--before=linux-5.10",
  "--after=linux-5.15",
  "--guest=restricted-dma",
  "--vmm=crosvm-2022-07",
];

describe("bit33 compat", () => {
  it("gives identical records for built-in profiles and for their dumped files", () => {
    const guests = ["plain", "viommu-strict", "restricted-dma"];
    const vmms = ["crosvm-2022-07", "qemu-7.2", "cloud-hypervisor"];
    const devices = ["linux-5.15", "vhost-device-vsock", "fix-own-bit", "bit33-auto"];
    const axes = { guest: guests, vmm: vmms, device: devices };
    const options = (word: (name: string) => string) =>
      Object.entries(axes).flatMap(([axis, names]) => names.flatMap((name) => [`--${axis}`, word(name)]));
    const byName = bit33("--json", ...options((name) => name));
    const byFile = bit33("--json", ...options(dumped));
    assert.equal(byName.status, 0, byName.stderr);
    assert.equal(byName.stdout.trimEnd().split("\n").length, 36);
    assert.equal(byFile.stdout, byName.stdout);
  });

  it("gives the same on one thread and on several", () => {
    const argv = ["--json", "--guest=viommu-lazy", "--guest=hostile-ack", "--vmm=qemu-7.2"];
    assert.equal(bit33(...argv, "--threads=1").stdout, bit33(...argv, "--threads=3").stdout);
  });

  it("fails the incident's combination as it failed in 2022, and marks where belief and fact part", () => {
    const { status, stdout } = bit33("--explain", INCIDENT);
    assert.equal(status, 0);
    const text = stdout.replaceAll(/\s+/g, " ");
    assert.match(text, / verdict fails-to-start: VHOST_VSOCK_SET_RUNNING .*EFAULT/);
    assert.match(text, /HERE BELIEF AND FACT PART \d+ device believes: .*IOTLB/);
    const { story } = JSON.parse(bit33("--explain", INCIDENT, "--json").stdout);
    assert.equal(story.steps.filter(({ parting }: { parting?: true }) => parting).length, 1);
  });

  it("is a gate: status 1 for what got worse, 0 the other way round", () => {
    const worse = bit33(...CHANGE);
    assert.equal(worse.status, 1);
    assert.match(worse.stdout, /^Worse with linux-5\.15 than with linux-5\.10: 1 combination\n/);
    const [, , ...rest] = CHANGE;
    const better = bit33("--before=linux-5.15", "--after=linux-5.10", ...rest);
    assert.equal(better.status, 0);
    assert.match(better.stdout, /^Better with linux-5\.10/);
  });

  it("mails the regression, in 75 columns, with the commit that brought it", () => {
    const path = join(folder, "report.mbox");
    assert.equal(bit33(...CHANGE, "--mail", path).status, 1);
    const mail = readFileSync(path, "utf8");
    for (const line of mail.split("\n")) assert.ok([...line].length <= 75, line);
    assert.match(mail, /^From bit33 /);
    assert.match(
      mail,
      /\nSubject: \[REGRESSION\] vhost-vsock: linux-5\.15 fails to start with\n crosvm-2022-07 and a restricted-dma guest\n/,
    );
    assert.match(mail, /\n#regzbot introduced: e13a6915a03f\n$/m);
    const [, command] = /\nTo reproduce:\n\n([\s\S]*?)\n\n/.exec(mail) ?? [];
    const again = command.replaceAll(/\\\n/g, " ").trim().split(/\s+/);
    assert.deepEqual(again.slice(0, 2), ["bit33", "compat"]);
    assert.equal(bit33(...again.slice(2)).stdout, bit33(...CHANGE).stdout);
  });

  it("writes one page with the table and the stories", () => {
    const path = join(folder, "page.html");
    const argv = [
      "--guest=restricted-dma",
      "--guest=viommu-strict",
      "--device=linux-5.15",
      "--device=bit33-auto",
    ];
    const { status, stderr } = bit33(...argv, "--html", path);
    assert.deepEqual([status, stderr], [0, `bit33: wrote the page ${path}\n`]);
    const page = readFileSync(path, "utf8");
    assert.match(
      page,
      new RegExp(`<td class="fails-to-start"><button type="button" data-cell="${INCIDENT}"`),
    );
    assert.match(page, /VHOST_VSOCK_SET_RUNNING/);
  });

  it("prints what the README shows", () => {
    const readme = readFileSync(join(root, "README.md"), "utf8");
    const blocks = [...readme.matchAll(/^ {4}\$ bit33 compat (.*)\n((?: {4}.*\n|\n(?= {4}))+)/gm)];
    assert.ok(blocks.length > 0);
    for (const [, argv, shown] of blocks) {
      assert.equal(bit33(...argv.split(" ")).stdout, shown.replaceAll(/^ {4}/gm, ""));
    }
  });

  it("ends a mistake in a profile file with its line and column", () => {
    const path = dumped("libkrun");
    writeFileSync(path, readFileSync(path, "utf8").replace(/^name: .*$/m, "name: My VMM"));
    const { status, stdout, stderr } = bit33("--vmm", path);
    assert.deepEqual([status, stdout], [2, ""]);
    assert.match(stderr, /^bit33: .*libkrun\.yaml:\d+:\d+: .*\n$/);
  });
});
