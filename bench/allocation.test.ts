/**
 * The data path allocates nothing per packet once its functions are compiled: a whole device in a process of its own
 * (`allocation-child.ts`), the heap before and after a hundred thousand packets of each kind. Counts bytes, not time.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { AllocationResult } from "./allocation-child.js";

const CHILD = fileURLToPath(new URL("./allocation-child.js", import.meta.url));
/** The smallest object has 16 bytes. What the looking itself takes is a tenth of this. */
const MOST_BYTES_PER_PACKET = 1;
/** So much can be allocated without a collection: more than any kind of work does, the one that leaks included. */
const YOUNG_MIB = 64;

/**
 * What the code allocates is there in every process. Whether the compiler keeps a number in a register or in an object on
 * the heap (16 bytes) also depends on what it had seen when it got round to a function, which a busy machine decides.
 */
const MOST_PROCESSES = 3;

async function measured(...args: string[]): Promise<AllocationResult[]> {
  const options = [`--min-semi-space-size=${YOUNG_MIB}`, `--max-semi-space-size=${YOUNG_MIB}`];
  const { stdout } = await promisify(execFile)(process.execPath, [...options, CHILD, ...args]);
  return stdout
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as AllocationResult);
}

function nameOf({ direction, atATime, bytesPerPacket }: AllocationResult): string {
  return `${direction}, ${atATime} at a time: ${bytesPerPacket} bytes a packet`;
}

function isFree({ bytesPerPacket }: AllocationResult): boolean {
  return bytesPerPacket < MOST_BYTES_PER_PACKET;
}

describe("the data path", () => {
  for (const [what, args] of [
    ["without translation", []],
    ["with translation", ["translated"]],
    ["where inflight memory is kept", ["inflight"]],
    ["on packed rings", ["packed"]],
    ["on packed rings with translation", ["packed", "translated"]],
  ] as const) {
    it(`allocates nothing per packet ${what}`, async () => {
      let results = await measured(...args);
      for (let others = 1; others < MOST_PROCESSES && !results.every(isFree); others++)
        results = await measured(...args);
      assert.equal(results.length, 4);
      for (const result of results) {
        assert.equal(result.collections, 0, nameOf(result));
        assert.equal(result.updates, 0, nameOf(result));
        assert.ok(isFree(result), nameOf(result));
      }
    });
  }

  for (const [what, args] of [
    ["split", []],
    ["packed", ["packed"]],
  ] as const)
    it(`would be found allocating one small object a packet on ${what} rings`, async () => {
      for (const result of await measured("leak", ...args))
        assert.ok(result.bytesPerPacket > 16 * MOST_BYTES_PER_PACKET, nameOf(result));
    });
});
