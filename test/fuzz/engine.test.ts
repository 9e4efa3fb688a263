/** The fuzzer finds what is hidden: behind conditions, in how often something runs, in a dead process and in one that hangs. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { type Found, fuzzInChild } from "./guarded.js";

const targets = new URL("./mistakes.fixture.js", import.meta.url).href;
/** It ends at the first mistake; nothing but a fuzzer that finds none takes so long. */
const LONG_ENOUGH_SECONDS = 120;

async function find(name: string, hangMs?: number): Promise<NonNullable<Found["failure"]>> {
  const request = { seconds: LONG_ENOUGH_SECONDS, seed: 1, targets };
  const { failure } = await fuzzInChild(name, hangMs === undefined ? request : { ...request, hangMs });
  assert.ok(failure !== undefined, "nothing was found");
  return failure;
}

const MAIN = fileURLToPath(new URL("./main.js", import.meta.url));

function command(...argv: string[]): { status: number | null; stdout: string; stderr: string } {
  return spawnSync(process.execPath, [MAIN, ...argv], { encoding: "utf8" });
}

describe("npm run fuzz", () => {
  it("lists its targets, runs one input again, and says what is wrong with its arguments", (t) => {
    const list = command("--list");
    assert.equal(list.status, 0);
    assert.match(list.stdout, /^rings +split and packed queues/m);
    const folder = mkdtempSync(join(tmpdir(), "bit33-fuzz-test-"));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, "input");
    writeFileSync(file, Uint8Array.of(0, 3, 0, 0));
    const again = command("rings", "--replay", file);
    assert.deepEqual([again.status, again.stdout], [0, "nothing is wrong with that input\n"]);
    for (const wrong of [["nothing"], [], ["rings", "--seconds", "few"], ["all", "--replay", file]]) {
      const { status, stderr } = command(...wrong);
      assert.equal(status, 2);
      assert.match(stderr, /usage: npm run fuzz/);
    }
  });
});

describe("the fuzzer", { timeout: 300_000 }, () => {
  it("finds its way through conditions by what it covers, and shortens what it found", async () => {
    const { input, what } = await find("hidden");
    assert.equal(Buffer.from(input).toString("latin1"), "bit3");
    assert.match(what, /RangeError: found/);
  });

  it("is led by how often something runs", async () => {
    const { input } = await find("repeated");
    assert.equal(Buffer.from(input).toString("latin1"), "(".repeat(8));
  });

  it("knows the input that ended its process", async () => {
    const { input, what } = await find("dies");
    assert.ok(input[0] > 128);
    assert.match(what, /died: SIGKILL/);
  });

  it("knows the input that hangs", async () => {
    const { input, what } = await find("hangs", 2000);
    assert.ok(input[0] > 128);
    assert.match(what, /hangs/);
  });

  it("finds nothing where nothing is", async () => {
    const { failure, runs } = await fuzzInChild("none", { seconds: 1, seed: 7, targets });
    assert.equal(failure, undefined);
    assert.ok(runs > 0);
  });
});
