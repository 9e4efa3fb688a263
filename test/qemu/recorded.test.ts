/**
 * The QEMU profiles against recordings of real QEMUs: our player, given the offer of the recording, has to say the same
 * things in the same order, with the same words and flags, and addresses of the same kind. Where it knowingly does not,
 * deviations.ts says why.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { conversationOf } from "./conversation.js";
import { expected } from "./deviations.js";
import { played } from "./player-session.js";
import { recordings } from "./recordings.js";

for (const recording of recordings()) {
  const { name, vmm } = recording;
  const said = conversationOf(recording.said);
  const ours = conversationOf(played(builtinVmm(vmm), recording));

  test(`${name}: ${vmm} gets to know the device as recorded`, () => {
    assert.deepEqual(ours.before, expected(name, "before", said.before));
  });
  test(`${name}: ${vmm} starts the device as recorded`, () => {
    assert.deepEqual(ours.start, expected(name, "start", said.start));
  });
  if (said.stop.length > 0) {
    test(`${name}: ${vmm} stops the device as recorded`, () => {
      assert.deepEqual(ours.stop, expected(name, "stop", said.stop));
    });
  }
}
