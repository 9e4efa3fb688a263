/** Driver and device against a naive queue: plain arrays of what was offered, taken and returned. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SegmentList } from "../memory/segments.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { BUFFER_ROOM_BYTES, busOf, inOrder, makeRig, type Rig, scattered } from "./queue-rig.js";

interface Expected {
  readonly head: number;
  readonly token: number;
  readonly readable: readonly number[];
  readonly writable: readonly number[];
  /** -1 until it is pushed. */
  written: number;
}

/** The same history in arrays. A chain moves from one to the next. */
class NaiveQueue {
  readonly added: Expected[] = [];
  readonly available: Expected[] = [];
  /** All that were popped and not given back, in order, also those pushed since. */
  readonly popped: Expected[] = [];
  readonly pushed: Expected[] = [];
  readonly returned: Expected[] = [];
}

type Step =
  | {
      readonly kind: "add";
      readonly readable: number[];
      readonly writable: number[];
      readonly inTable: boolean;
    }
  | { readonly kind: "publish" | "publishUsed" | "moveRings" }
  | { readonly kind: "pop" | "poll"; readonly count: number }
  | { readonly kind: "unpop"; readonly count: number }
  | { readonly kind: "push"; readonly which: number; readonly written: number };

const lengths = fc.array(fc.integer({ min: 1, max: 6000 }), { maxLength: 4 });

function stepArbitrary(indirect: boolean): fc.Arbitrary<Step> {
  const count = fc.integer({ min: 1, max: 8 });
  return fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant("add" as const),
        readable: lengths,
        writable: lengths,
        inTable: indirect ? fc.boolean() : fc.constant(false),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({ kind: fc.constantFrom("publish" as const, "publishUsed" as const) }),
    },
    { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("pop" as const, "poll" as const), count }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("unpop" as const), count }) },
    {
      weight: 4,
      arbitrary: fc.record({ kind: fc.constant("push" as const), which: fc.nat(), written: fc.nat(5000) }),
    },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant("moveRings" as const) }) },
  );
}

/** Runs the steps on both and compares whatever either side can see. */
class Comparison {
  readonly model = new NaiveQueue();
  readonly chain = new Chain();
  #tokens = 0;
  #offset = 0;

  constructor(readonly rig: Rig) {
    rig.device.prepare();
  }

  run(step: Step): void {
    const { rig, model } = this;
    if (step.kind === "add") this.#add(step.readable, step.writable, step.inTable);
    else if (step.kind === "pop") this.#pop(step.count);
    else if (step.kind === "unpop") this.#unpop(step.count);
    else if (step.kind === "push") this.#push(step.which, step.written);
    else if (step.kind === "poll") this.#poll(step.count);
    else if (step.kind === "publish") {
      rig.driver.publish();
      model.available.push(...model.added.splice(0));
      assert.equal(rig.device.available(), model.available.length);
    } else if (step.kind === "publishUsed") {
      rig.device.publish();
      model.returned.push(...model.pushed.splice(0));
    } else {
      rig.space.generation++;
      rig.device.prepare();
    }
  }

  #add(readable: number[], writable: number[], inTable: boolean): void {
    if (readable.length + writable.length === 0) return;
    const place = (length: number): { address: bigint; length: number } => {
      if (this.#offset + length > BUFFER_ROOM_BYTES) this.#offset = 0;
      this.#offset += length;
      return { address: busOf(this.rig, this.#offset - length), length };
    };
    const parts = [readable.map(place), writable.map(place)] as const;
    const needed = inTable ? 1 : readable.length + writable.length;
    const room = this.rig.driver.freeDescriptors >= needed;
    const token = this.#tokens++;
    const head = this.rig.driver.add(parts[0], parts[1], token, inTable);
    assert.equal(head !== -1, room);
    if (!room) return;
    const offsets = parts.map((list) =>
      list.flatMap(({ address, length }) => [Number(address - busOf(this.rig, 0)), length]),
    );
    this.model.added.push({ head, token, readable: offsets[0], writable: offsets[1], written: -1 });
  }

  #pop(count: number): void {
    for (let i = 0; i < count; i++) {
      const expected = this.model.available.shift();
      const found = this.rig.device.pop(this.chain);
      assert.equal(found, expected === undefined ? Pop.EMPTY : Pop.CHAIN, this.rig.device.failure?.message);
      if (expected === undefined) return;
      assert.equal(this.chain.head, expected.head);
      this.#sameBytes(this.chain.readable, expected.readable);
      this.#sameBytes(this.chain.writable, expected.writable);
      this.model.popped.push(expected);
    }
  }

  #sameBytes(found: SegmentList, buffers: readonly number[]): void {
    const expected = new SegmentList();
    for (let i = 0; i < buffers.length; i += 2) {
      for (let at = buffers[i]; at < buffers[i] + buffers[i + 1]; ) {
        const end = Math.min(buffers[i] + buffers[i + 1], (Math.floor(at / 4096) + 1) * 4096);
        expected.append(this.rig.space.hostOf(this.rig.at.buffers + at), end - at);
        at = end;
      }
    }
    assert.equal(found.count, expected.count);
    for (let i = 0; i < found.count; i++) {
      assert.equal(found.address[i], expected.address[i]);
      assert.equal(found.length[i], expected.length[i]);
    }
  }

  #unpop(count: number): void {
    const { popped, available } = this.model;
    let given = 0;
    while (given < count && popped.length > 0 && popped[popped.length - 1].written < 0) {
      available.unshift(popped.pop() as Expected);
      given++;
    }
    this.rig.device.unpop(given);
  }

  #push(which: number, written: number): void {
    const open = this.model.popped.filter((chain) => chain.written < 0);
    if (open.length === 0) return;
    const chain = open[which % open.length];
    chain.written = written;
    this.rig.device.push(chain.head, written);
    this.model.pushed.push(chain);
  }

  #poll(count: number): void {
    for (let i = 0; i < count; i++) {
      const expected = this.model.returned.shift();
      const head = this.rig.driver.pollUsed();
      assert.equal(head, expected?.head ?? -1, this.rig.driver.failure?.message);
      if (expected === undefined) return;
      assert.equal(this.rig.driver.usedLength, expected.written);
      assert.equal(this.rig.driver.token(head), expected.token);
    }
  }
}

describe("split queue against a naive queue", () => {
  for (const eventIdx of [false, true]) {
    for (const indirect of [false, true]) {
      const name = `${eventIdx ? "with" : "without"} EVENT_IDX, ${indirect ? "with" : "without"} indirect tables`;
      it(`loses, doubles and reorders nothing, ${name}`, () => {
        const scenario = fc.record({
          sizeShift: fc.integer({ min: 0, max: 10 }),
          firstIndex: fc.oneof(fc.constant(0), fc.integer({ min: 65400, max: 65535 })),
          spread: fc.boolean(),
          shift: fc.constantFrom(0, 16, 4080),
          steps: fc.array(stepArbitrary(indirect), { minLength: 20, maxLength: 300 }),
        });
        fc.assert(
          fc.property(scenario, ({ sizeShift, firstIndex, spread, shift, steps }) => {
            const order = spread ? scattered : inOrder;
            const rig = makeRig({
              size: 2 ** sizeShift,
              eventIdx,
              indirect,
              firstIndex,
              order,
              shift,
              tableEntries: 8,
            });
            const comparison = new Comparison(rig);
            for (const step of steps) comparison.run(step);
          }),
          { numRuns: 200 },
        );
      });
    }
  }

  it("keeps going when its indexes wrap at 65536", () => {
    for (const size of [1, 8, 1024]) {
      const rig = makeRig({ size, eventIdx: true, order: scattered });
      const comparison = new Comparison(rig);
      let rounds = 0;
      for (let chains = 0; chains < 70_000; rounds++) {
        const batch = size === 1 ? 1 : 1 + (rounds % (size / 2));
        for (let i = 0; i < batch; i++)
          comparison.run({ kind: "add", readable: [10], writable: i % 2 === 0 ? [20] : [], inTable: true });
        comparison.run({ kind: "publish" });
        comparison.run({ kind: "pop", count: batch });
        for (let i = 0; i < batch; i++) comparison.run({ kind: "push", which: 0, written: i });
        comparison.run({ kind: "publishUsed" });
        comparison.run({ kind: "poll", count: batch });
        comparison.model.popped.length = 0;
        chains += batch;
      }
      assert.equal(rig.driver.freeDescriptors, size);
    }
  });

  it("works at the largest size", () => {
    const rig = makeRig({ size: 32768, tableEntries: 1, order: scattered, firstIndex: 40000 });
    const comparison = new Comparison(rig);
    for (let round = 0; round < 2; round++) {
      for (let i = 0; i < 32768; i++)
        comparison.run({ kind: "add", readable: [1 + (i % 7)], writable: [], inTable: false });
      comparison.run({ kind: "add", readable: [1], writable: [], inTable: false });
      comparison.run({ kind: "publish" });
      comparison.run({ kind: "pop", count: 32768 });
      for (const chain of comparison.model.popped.splice(0)) {
        chain.written = chain.token % 100;
        rig.device.push(chain.head, chain.written);
        comparison.model.pushed.push(chain);
      }
      comparison.run({ kind: "publishUsed" });
      comparison.run({ kind: "poll", count: 32769 });
    }
    assert.equal(rig.driver.freeDescriptors, 32768);
  });
});
