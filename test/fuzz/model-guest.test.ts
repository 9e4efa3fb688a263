/** A random guest against a model of the device; what it finds is shrunk to a short list of commands. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { openDescriptors } from "../../src/vsock/switch-rig.js";
import { COMMANDS } from "./model-commands.js";
import { Model, Real } from "./model-guest.js";

/** More by `BIT33_MODEL_RUNS`. */
const RUNS = Number(process.env.BIT33_MODEL_RUNS ?? 150);

describe("a random guest is answered as the model says", { timeout: 600_000 }, () => {
  for (const [name, options] of [
    ["split rings", { packed: false, eventIdx: false }],
    ["split rings with EVENT_IDX", { packed: false, eventIdx: true }],
    ["packed rings", { packed: true, eventIdx: false }],
    ["packed rings with EVENT_IDX", { packed: true, eventIdx: true }],
  ] as const) {
    it(`over ${name}`, () => {
      const before = openDescriptors();
      fc.assert(
        fc.property(fc.commands(COMMANDS, { maxCommands: 40 }), (commands) => {
          const real = new Real(options);
          try {
            fc.modelRun(() => ({ model: new Model(), real }), commands);
          } finally {
            real.close();
          }
        }),
        { numRuns: RUNS },
      );
      assert.equal(openDescriptors(), before, "descriptors are left open");
    });
  }
});
