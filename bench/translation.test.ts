/** What the rows on translation rest on: a layout that really is translated page by page, and runs that complete. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { GuestRam } from "../src/guest/guest-ram.js";
import { PAGE_BYTES } from "../src/linux/mapping.js";
import { IOTLB_ENTRIES } from "../src/memory/iotlb.js";
import { layoutFor } from "./driver-layout.js";
import { Arena } from "./guest-arena.js";
import { rowsOf } from "./rows.js";
import { measureWithEntries, runTranslation } from "./translation.js";
import { type Sample, TRANSLATION_WORKS, translationRecord } from "./translation-rows.js";

const PAGES = 300;
const WHOLE_PAGES = 4;

for (const pieces of [1, 2, 7, 128, PAGES]) {
  it(`cuts an arena into ${pieces} pieces that cover it, and of which no two neighbours touch in memory`, () => {
    const ram = new GuestRam();
    const arena = new Arena(ram, PAGES * PAGE_BYTES, WHOLE_PAGES * PAGE_BYTES, pieces);
    assert.equal(arena.pieces.length, Math.min(pieces, PAGES - WHOLE_PAGES + 1));
    assert.ok(arena.pieces[0].bytes >= WHOLE_PAGES * PAGE_BYTES);
    const places = new Set<number>();
    for (const { offset, bytes, gpa } of arena.pieces)
      for (let at = 0; at < bytes; at += PAGE_BYTES) {
        assert.equal(arena.gpaOf(offset + at), gpa + at);
        places.add(gpa + at);
      }
    assert.equal(places.size, PAGES);
    let touching = 0;
    for (const [index, piece] of arena.pieces.entries()) {
      const next = arena.pieces[index + 1];
      if (next !== undefined && next.gpa === piece.gpa + piece.bytes) touching++;
    }
    // By chance a few do.
    assert.ok(touching <= 3, `${touching} of ${arena.pieces.length} touch`);
    ram.close();
  });
}

it("lays a guest behind a vIOMMU out so that each of its pages can have an entry", () => {
  const { bytes, dataSlots, controlSlots } = layoutFor(256, { kind: "mapped" });
  assert.ok(bytes <= IOTLB_ENTRIES * PAGE_BYTES);
  // As many as fit, and still enough for the credit of several connections.
  assert.equal(dataSlots, 96);
  assert.equal(controlSlots, 32);
  assert.deepEqual(layoutFor(256, { kind: "guest-physical" }), layoutFor(256, { kind: "mapped" }));
  assert.equal(layoutFor(256, undefined).dataSlots, 112);
});

it("states a way of addressing as a share of translation off, round by round", () => {
  const sample = (seconds: number, unmappingNs?: number): Sample => ({
    bytes: 2 ** 20,
    seconds,
    deviceCpuSeconds: 0.25,
    driverCpuSeconds: 0.5,
    tally:
      unmappingNs === undefined
        ? undefined
        : { misses: 17, updates: 17, invalidations: 2, unmappingNs, answeringNs: 0 },
  });
  const off = [sample(1), sample(2)];
  const record = translationRecord("on", TRANSLATION_WORKS[0], [sample(2, 1e9), sample(2, 1e9)], off);
  assert.equal(record.row, "translation-on-g2h-64k");
  assert.equal(record.ratio.off, 0.75);
  assert.equal(record.met, false);
  assert.deepEqual(record.perMiB, { misses: 17, updates: 17, invalidations: 2 });
  assert.equal(record.time.unmapping, 0.5);
  assert.equal(record.cpu.ours, 256);
  assert.equal(translationRecord("strict", TRANSLATION_WORKS[0], off, off).met, null);
});

it("measures every way of addressing over our device", async () => {
  const works = TRANSLATION_WORKS.filter((work) => rowsOf(work)[0].endsWith("-4k"));
  const records = await runTranslation({ rounds: 1, durationMs: 30, warmUpMs: 0, works });
  assert.deepEqual(
    records.map(({ row }) => row),
    ["on", "strict", "pipelined"].flatMap((variant) => [
      `translation-${variant}-g2h-4k`,
      `translation-${variant}-h2g-4k`,
    ]),
  );
  for (const { row, ours, off, perMiB } of records) {
    assert.ok(ours > 0 && off > 0, `${row}: ${ours}, off: ${off}`);
    if (row.startsWith("translation-on"))
      assert.deepEqual(perMiB, { misses: 0, updates: 0, invalidations: 0 });
    else assert.ok(perMiB.misses > 0 && perMiB.updates > 0 && perMiB.invalidations > 0, row);
  }
});

it("measures with a given number of entries, down to one", async () => {
  for (const entries of [1, IOTLB_ENTRIES]) {
    const { toHost, toGuest } = await measureWithEntries(entries, 20);
    assert.ok(toHost > 0 && toGuest > 0, `${entries}: ${toHost}, ${toGuest}`);
  }
});
