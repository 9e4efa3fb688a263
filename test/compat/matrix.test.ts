/**
 * What the whole matrix has to show, whatever its cells say one by one (docs/matrix.md has those): the incident fails
 * as it did, this project's device serves whoever can be served, and what it exposes is what SECURITY.md admits.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { type Cell, type CellRecord, cellName } from "../../src/compat/record.js";
import { builtinProfiles } from "../../src/profiles/builtin.js";
import { wholeMatrix } from "../matrix-page.js";
import { root } from "../vm/paths.js";

describe("the whole matrix", () => {
  let cells: readonly Cell[] = [];
  let ran: readonly CellRecord[] = [];
  const cell = (name: string): Cell => {
    const found = cells.find((candidate) => cellName(candidate) === name);
    assert.ok(found, `${name} is not in the matrix`);
    return found;
  };

  before(async () => {
    cells = await wholeMatrix();
    ran = cells.filter((candidate): candidate is CellRecord => candidate.verdict !== null);
  });

  it("has every combination of the built-in profiles, and runs every guest, VMM and device in some of them", () => {
    const { guests, vmms, devices } = builtinProfiles();
    assert.equal(cells.length, guests.length * vmms.length * devices.length);
    assert.equal(new Set(cells.map(cellName)).size, cells.length);
    for (const { name } of guests)
      assert.ok(
        ran.some(({ guest }) => guest === name),
        name,
      );
    for (const { name } of vmms)
      assert.ok(
        ran.some(({ vmm }) => vmm === name),
        name,
      );
    for (const { name } of devices)
      assert.ok(
        ran.some(({ device }) => device === name),
        name,
      );
  });

  it("has the incident of 2022: good on 5.10, -EFAULT from VHOST_VSOCK_SET_RUNNING on 5.15, mended by the mask", () => {
    assert.equal(cell("restricted-dma/crosvm-2022-07/linux-5.10").verdict, "works");
    const incident = cell("restricted-dma/crosvm-2022-07/linux-5.15");
    assert.equal(incident.verdict, "fails-to-start");
    assert.match(incident.reason, /VHOST_VSOCK_SET_RUNNING.*EFAULT/);
    assert.equal(cell("restricted-dma/crosvm-2022-08/linux-5.15").verdict, "works");
  });

  it("has bit33-auto work, or be refused, wherever any device works", () => {
    const served = ran
      .filter(({ verdict }) => verdict === "works")
      .map(({ guest, vmm }) => `${guest}/${vmm}`);
    const pairs = new Set(served);
    const own = ran.filter(
      ({ device, guest, vmm }) => device === "bit33-auto" && pairs.has(`${guest}/${vmm}`),
    );
    assert.ok(own.length > 20);
    const bad = own.filter(({ verdict }) => verdict !== "works" && verdict !== "refused");
    assert.deepEqual(bad.map(cellName), []);
  });

  it("has bit33-on expose nothing, and bit33-auto only what SECURITY.md names, which is all there", () => {
    const exposed = (name: string) =>
      ran.filter(({ device, verdict }) => device === name && verdict === "exposes").map(cellName);
    assert.deepEqual(exposed("bit33-on"), []);
    const security = readFileSync(join(root, "SECURITY.md"), "utf8");
    const named = [...security.matchAll(/`([\w.-]+\/[\w.-]+\/bit33-auto)`/g)].map(([, name]) => name);
    assert.ok(named.length > 0);
    assert.deepEqual(exposed("bit33-auto").sort(), named.sort());
  });

  it("says why a combination does not apply, instead of a verdict", () => {
    for (const { verdict, reason } of cells) assert.ok(verdict !== null || reason.length > 20);
  });

  it("marks as executed no cell of a program that cannot run here", () => {
    const derived = /crosvm|openvmm|alioth|libkrun|cloud-hypervisor|linux-5\.15|dpdk/;
    const wrong = ran.filter((record) => record.evidence === "executed" && derived.test(cellName(record)));
    assert.deepEqual(wrong.map(cellName), []);
  });
});
