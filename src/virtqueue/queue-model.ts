/**
 * For tests: a driver and a device against a naive queue, plain arrays of what was offered, taken and returned. Split and
 * packed queues are compared alike.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { SegmentList } from "../memory/segments.js";
import { Chain } from "./chain.js";
import { type DeviceQueue, Pop } from "./device-queue.js";
import type { DriverQueue } from "./driver-queue.js";
import { BUFFER_ROOM_BYTES, BUS_BASE, type FakeSpace } from "./queue-rig.js";
import type { BusBuffer } from "./split-driver-queue.js";

/** A queue with both its ends. */
export interface ComparedQueue {
  readonly space: FakeSpace;
  readonly driver: DriverQueue & {
    add(
      readable: readonly BusBuffer[],
      writable: readonly BusBuffer[],
      token: number,
      inTable: boolean,
    ): number;
    token(head: number): number | undefined;
  };
  readonly device: DeviceQueue;
  readonly at: { readonly buffers: number };
}

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

export type Step =
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

export function stepArbitrary(indirect: boolean): fc.Arbitrary<Step> {
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
export class Comparison {
  readonly model = new NaiveQueue();
  readonly chain = new Chain();
  #tokens = 0;
  #offset = 0;

  constructor(readonly rig: ComparedQueue) {
    rig.device.prepare();
  }

  #busOf(offset: number): bigint {
    return BUS_BASE + BigInt(this.rig.at.buffers + offset);
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
      return { address: this.#busOf(this.#offset - length), length };
    };
    const parts = [readable.map(place), writable.map(place)] as const;
    const needed = inTable ? 1 : readable.length + writable.length;
    const room = this.rig.driver.freeDescriptors >= needed;
    const token = this.#tokens++;
    const head = this.rig.driver.add(parts[0], parts[1], token, inTable);
    assert.equal(head !== -1, room);
    if (!room) return;
    const offsets = parts.map((list) =>
      list.flatMap(({ address, length }) => [Number(address - this.#busOf(0)), length]),
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
