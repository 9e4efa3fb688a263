import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { GuestMemory } from "./guest-memory.js";
import { Iotlb } from "./iotlb.js";
import { addRegion, GIB, lookUp, PAGE } from "./testing.js";

const UVA = 0x7f00_0000_0000;
const uva = BigInt(UVA);
const page = BigInt(PAGE);
const END = 2n ** 64n;

/** What is known of one byte. */
interface Byte {
  /** The run of bytes that came by one UPDATE and were not torn apart since. */
  run: number;
  serial: number;
  host: number;
  permission: number;
}

const DOMAIN_BYTES = 4 * PAGE;

/** An IOTLB as an array of bytes: each says what it is mapped to, and nothing is clever. */
class NaiveIotlb {
  bytes: (Byte | undefined)[] = new Array(DOMAIN_BYTES).fill(undefined);
  pinned: boolean[] = new Array(DOMAIN_BYTES).fill(false);
  #nextRun = 1;
  #nextSerial = 1;

  constructor(
    readonly capacity: number,
    readonly hostOf: (uvaOffset: number) => number,
  ) {}

  update(start: number, size: number, uvaOffset: number, permission: number): void {
    const serial = this.#nextSerial++;
    const incoming = Array.from({ length: size }, (_, i) => this.hostOf(uvaOffset + i));
    // Where the second region begins, a piece of its own begins, even if the host has them side by side.
    const seam = 8 * PAGE - uvaOffset;
    const isWhole = seam <= 0 || seam >= size;
    const covered = this.bytes[start]?.run;
    const same = incoming.every((host, i) => {
      const byte = this.bytes[start + i];
      return byte?.run === covered && byte?.host === host && byte?.permission === permission;
    });
    if (isWhole && covered !== undefined && same) {
      for (const byte of this.bytes) if (byte?.run === covered) byte.serial = serial;
      return;
    }
    for (let i = 0; i < size; i++) this.bytes[start + i] = undefined;
    this.#renumber();
    const pieces = isWhole ? 1 : 2;
    while (this.#runs().length + pieces > this.capacity) this.#retire();
    let run = this.#nextRun++;
    for (let i = 0; i < size; i++) {
      if (i > 0 && i === seam) run = this.#nextRun++;
      this.bytes[start + i] = { run, serial, host: incoming[i], permission };
    }
  }

  invalidate(start: number, size: number): void {
    const touched = new Set(this.bytes.slice(start, start + size).map((byte) => byte?.run));
    this.bytes = this.bytes.map((byte) => (byte !== undefined && touched.has(byte.run) ? undefined : byte));
  }

  /** First byte of each run, in order. */
  #runs(): { run: number; serial: number; isPinned: boolean }[] {
    const found = new Map<number, { run: number; serial: number; isPinned: boolean }>();
    this.bytes.forEach((byte, i) => {
      if (byte === undefined) return;
      const known = found.get(byte.run) ?? { run: byte.run, serial: byte.serial, isPinned: false };
      found.set(byte.run, { ...known, isPinned: known.isPinned || this.pinned[i] });
    });
    return [...found.values()];
  }

  /** Gives what a hole tore apart numbers of its own. */
  #renumber(): void {
    let before: number | undefined;
    let given = 0;
    for (const byte of this.bytes) {
      const run = byte?.run;
      if (byte !== undefined) {
        if (run !== before) given = this.#nextRun++;
        byte.run = given;
      }
      before = run;
    }
  }

  #retire(): void {
    const runs = this.#runs();
    const free = runs.filter(({ isPinned }) => !isPinned);
    const oldest = (free.length > 0 ? free : runs).reduce((a, b) => (b.serial < a.serial ? b : a));
    this.bytes = this.bytes.map((byte) => (byte?.run === oldest.run ? undefined : byte));
  }
}

type Step =
  | { kind: "update"; start: number; size: number; uvaOffset: number; permission: number }
  | { kind: "invalidate"; start: number; size: number }
  | { kind: "pin"; start: number; size: number }
  | { kind: "unpin" };

/** Mostly whole pages, as front-ends send them, and sometimes any bytes. */
const place = fc.oneof(
  fc.nat({ max: 3 }).map((pages) => pages * PAGE),
  fc.nat({ max: DOMAIN_BYTES - 1 }),
);
const length = fc.oneof(
  fc.integer({ min: 1, max: 4 }).map((pages) => pages * PAGE),
  fc.integer({ min: 1, max: DOMAIN_BYTES }),
  fc.constant(1),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("update" as const),
      start: place,
      size: length,
      uvaOffset: place.map((offset) => offset + 5 * PAGE),
      permission: fc.integer({ min: 1, max: 3 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant("invalidate" as const), start: place, size: length }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("pin" as const),
      start: place,
      size: fc.integer({ min: 1, max: PAGE }),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: "unpin" as const }) },
);

function apply(taken: Step, base: bigint, iotlb: Iotlb, naive: NaiveIotlb): void {
  if (taken.kind === "unpin") {
    iotlb.unpinAll();
    naive.pinned.fill(false);
    return;
  }
  const { start } = taken;
  const size = Math.min(taken.size, DOMAIN_BYTES - start);
  const iova = base + BigInt(start);
  if (taken.kind === "update") {
    iotlb.update(iova, BigInt(size), uva + BigInt(taken.uvaOffset), taken.permission);
    naive.update(start, size, taken.uvaOffset, taken.permission);
  } else if (taken.kind === "invalidate") {
    iotlb.invalidate(iova, BigInt(size));
    naive.invalidate(start, size);
  } else {
    iotlb.pin(Number(iova & 0xffff_ffffn), Number(iova >> 32n), size);
    const firstPage = Math.floor(start / PAGE);
    const lastPage = Math.floor((start + size - 1) / PAGE);
    naive.pinned.fill(true, firstPage * PAGE, (lastPage + 1) * PAGE);
  }
}

/** Compares the bytes at and around every place where either side changes. */
function compare(base: bigint, iotlb: Iotlb, naive: NaiveIotlb): void {
  const places = new Set([0, DOMAIN_BYTES - 1]);
  const around = (at: number) => {
    for (const i of [at - 1, at, at + 1]) if (i >= 0 && i < DOMAIN_BYTES) places.add(i);
  };
  for (const { iova, size } of iotlb.table.entries())
    [Number(iova - base), Number(iova - base + size)].forEach(around);
  for (let i = 1; i < DOMAIN_BYTES; i++) if (naive.bytes[i]?.run !== naive.bytes[i - 1]?.run) around(i);
  for (const i of places) {
    const byte = naive.bytes[i];
    const expected = byte === undefined ? undefined : { host: byte.host, permission: byte.permission };
    assert.deepEqual(lookUp(iotlb, base + BigInt(i)), expected, `byte ${i}`);
  }
}

test("after any messages every byte is mapped as an array of bytes has it, and what is lost changes the generation", () => {
  const memory = new GuestMemory();
  addRegion(memory, { gpa: 0, size: 8 * PAGE, uva: UVA });
  addRegion(memory, { gpa: 5 * GIB, size: 8 * PAGE, uva: UVA + 8 * PAGE });
  const bases = [0n, 2n ** 32n - 2n * page, 2n ** 53n - 2n * page, 2n ** 63n - 2n * page, END - 4n * page];
  fc.assert(
    fc.property(
      fc.constantFrom(...bases),
      fc.integer({ min: 2, max: 6 }),
      fc.array(step, { maxLength: 20 }),
      (base, capacity, steps) => {
        const iotlb = new Iotlb(memory, capacity);
        const naive = new NaiveIotlb(capacity, (offset) => memory.uvaToHost(UVA + offset));
        for (const taken of steps) {
          const before = naive.bytes.map((byte) => byte?.host);
          const generation = iotlb.generation;
          apply(taken, base, iotlb, naive);
          compare(base, iotlb, naive);
          assert.ok(iotlb.table.count <= capacity);
          const isLost = before.some((host, i) => host !== undefined && naive.bytes[i]?.host !== host);
          if (isLost) assert.notEqual(iotlb.generation, generation);
        }
      },
    ),
    { numRuns: 60 },
  );
});
