/** The story of a cell as text. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { cell, inapplicable, storyOf } from "./cells.fixture.js";
import { narrative } from "./narrative.js";
import { columnsOf } from "./text.js";

const INCIDENT = cell("restricted-dma/crosvm-2022-07/linux-5.15", "fails-to-start");

describe("the story of a cell", () => {
  const lines = narrative(INCIDENT, {
    width: 80,
    programOf: (actor) => `the program of the ${actor}`,
    again: "bit33 compat --explain x",
  });
  const text = lines.join("\n");

  it("says who takes part, what was assumed and what came of it, before it begins", () => {
    assert.deepEqual(lines.slice(0, 5), [
      "restricted-dma/crosvm-2022-07/linux-5.15",
      "",
      "guest       restricted-dma: the program of the guest",
      "VMM         crosvm-2022-07: the program of the vmm",
      "device      linux-5.15: the program of the device",
    ]);
    assert.match(text, /\nassumed {5}kernel vhost \(ioctls\); ordinary memory; no vIOMMU;/);
    assert.match(text, /\nverdict {5}fails-to-start: /);
  });

  it("has every step in order, numbered, with who did it", () => {
    const steps = lines.flatMap((line) => /^ (\d {2}\w+ +\S+ \S+)/.exec(line)?.[1] ?? []);
    assert.deepEqual(steps, [
      "1  device  offers 0x33d000002,",
      "2  VMM     believes: bit",
      "3  guest   acknowledges 0x330000000",
      "4  VMM     VHOST_SET_FEATURES 0x330000000",
      "5  device  believes: bit",
      "6  device  looks up",
      "7  VMM     VHOST_VSOCK_SET_RUNNING →",
    ]);
  });

  it("marks the one point at which belief and fact part, right above it", () => {
    const marks = lines.filter((line) => line.includes("BELIEF AND FACT PART"));
    assert.equal(marks.length, 1);
    assert.match(lines[lines.indexOf(marks[0]) + 1], /^ 5 {2}device {2}believes: bit 33 turns the IOTLB on/);
  });

  it("ends with what each believes, the evidence, the sources and the command that runs it again", () => {
    assert.match(text, /\n {2}device {4}Bit 33 means: translate/);
    assert.match(text, /\nevidence {4}derived: /);
    assert.match(
      text,
      /\nsources {5}Linux v5.15 drivers\/vhost\/vsock.c\nagain {7}bit33 compat --explain x$/,
    );
  });

  it("keeps to its width", () => {
    for (const width of [60, 75, 100]) {
      for (const line of narrative(INCIDENT, { width })) assert.ok(columnsOf(line) <= width, line);
    }
  });

  it("may have no point of parting", () => {
    const story = storyOf({ kind: "data", actor: "guest", text: "gets what was sent" });
    assert.ok(
      !narrative(cell("a/b/c", "works", { story }), { width: 80 })
        .join()
        .includes("PART"),
    );
  });
});

it("a combination that does not apply says why instead", () => {
  const text = narrative(inapplicable("plain/qemu/linux", "qemu speaks vhost-user"), { width: 80 }).join(
    "\n",
  );
  assert.match(text, /verdict {5}none: this combination does not apply, since qemu speaks vhost-user\n/);
  assert.doesNotMatch(text, /in order/);
});
