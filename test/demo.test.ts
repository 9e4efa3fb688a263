/**
 * The demo as a user starts it: through the program, device and guests in processes of their own.
 */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));

interface Run {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function bit33(args: readonly string[], env: NodeJS.ProcessEnv = process.env): Promise<Run> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...args], { env, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      err += chunk;
    });
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, out, err }));
  });
}

/** The text with its line breaks taken out, so that no test depends on where a paragraph wraps. */
function flat(text: string): string {
  return text.replace(/\s+/g, " ");
}

describe("bit33 demo", () => {
  let run: Run;
  /** What each line-up printed, by its number. */
  let parts: string[];
  const temporary = mkdtempSync(join(tmpdir(), "bit33-demo-test-"));

  before(async () => {
    run = await bit33(["demo", "--size", "4"], { ...process.env, TMPDIR: temporary });
    parts = run.out.split(/\n\d\/4 /).map(flat);
  });
  after(() => rmSync(temporary, { recursive: true, force: true }));

  it("ends with status 0 after every transfer arrived intact", () => {
    assert.equal(run.err, "");
    assert.match(run.out, /All 8 transfers arrived intact, with equal SHA-256 at both ends/);
    assert.equal(run.status, 0);
  });

  it("shows a plain guest that never sees bit 33, untranslated", () => {
    assert.match(parts[1], /A PLAIN GUEST/);
    assert.match(parts[1], /the device offers it → the VMM hides it from the guest/);
    assert.match(parts[1], /translation OFF\. .*bit 33 is not acknowledged/);
    assert.match(parts[1], /guest to host 4 MiB in .*host to guest 4 MiB in/);
    assert.doesNotMatch(parts[1], /IOTLB .*MISS/);
  });

  it("shows a guest behind a vIOMMU, translated, with the IOTLB's counts", () => {
    assert.match(parts[2], /A GUEST BEHIND A VIOMMU/);
    assert.match(parts[2], /the guest takes it → the VMM passes it on/);
    assert.match(parts[2], /translation ON\. Addresses are translated/);
    const [, asked, mapped, takenBack] =
      /the device asked (\d+) times \(MISS\); (\d+) pages mapped \(UPDATE\), (\d+) ranges taken back/.exec(
        parts[2],
      ) ?? [];
    for (const count of [asked, mapped, takenBack]) assert.ok(Number(count) > 100, `${count} messages`);
  });

  it("shows restricted DMA, where the VMM masks the bit and nothing is translated", () => {
    assert.match(parts[3], /A GUEST WITH RESTRICTED DMA/);
    assert.match(parts[3], /the guest takes it → the VMM masks it/);
    assert.match(parts[3], /translation OFF\./);
  });

  it("shows the line-up of the 2022 incident, which works here", () => {
    assert.match(parts[4], /THE INCIDENT OF AUGUST 2022/);
    assert.match(parts[4], /the guest takes it → the VMM passes it on/);
    assert.match(parts[4], /translation OFF\. .*bit 33 is acknowledged, which only says .*DMA API/);
    assert.match(parts[4], /host to guest 4 MiB in/);
  });

  it("fits into 80 columns", () => {
    const wide = run.out.split("\n").filter((line) => line.length > 80);
    assert.deepEqual(wide, []);
  });

  it("leaves nothing behind", () => {
    assert.deepEqual(readdirSync(temporary), []);
  });
});

describe("bit33 demo, called wrongly", () => {
  it("explains itself with --help", async () => {
    const { status, out } = await bit33(["demo", "--help"]);
    assert.equal(status, 0);
    assert.match(out, /Usage: bit33 demo \[--size MIB\]/);
  });

  it("refuses a size that is no number, in one line and with status 2", async () => {
    const { status, err } = await bit33(["demo", "--size", "lots"]);
    assert.equal(status, 2);
    assert.equal(err, "bit33: --size lots is not a number of MiB; use 1 to 1024\n");
  });

  it("says why the device did not start", async () => {
    const temporary = mkdtempSync(join(tmpdir(), `bit33-${"x".repeat(90)}-`));
    const { status, out, err } = await bit33(["demo"], { ...process.env, TMPDIR: temporary });
    rmSync(temporary, { recursive: true, force: true });
    assert.equal(status, 1);
    assert.equal(out, "");
    assert.match(err, /^bit33: the device did not start: .*(107|too long)/);
  });
});
