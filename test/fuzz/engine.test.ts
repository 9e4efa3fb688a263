/** The fuzzer finds what is hidden: behind conditions, in how often something runs, in a dead process and in one that hangs. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
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

describe("the fuzzer", { timeout: 300_000 }, () => {
  it("finds its way through conditions by what it covers, and shortens what it found", async () => {
    const { input, what } = await find("hidden");
    assert.equal(Buffer.from(input).toString("latin1"), "bit33");
    assert.match(what, /RangeError: found/);
  });

  it("is led by how often something runs", async () => {
    const { input } = await find("repeated");
    assert.equal(Buffer.from(input).toString("latin1"), "(".repeat(12));
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
