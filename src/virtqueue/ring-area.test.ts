import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PAGE_BYTES, view } from "../linux/mapping.js";
import { Access, Outcome } from "../memory/address.js";
import type { AddressSpace } from "../memory/address-space.js";
import { BUS_BASE, FakeSpace, inOrder, makeMemory, scattered } from "./queue-rig.js";
import { RingArea } from "./ring-area.js";

function makeArea(order: number[], offset: number, lengthBytes: number, alignment = 4) {
  const { driverHost, deviceHost } = makeMemory(order);
  const space = new FakeSpace(deviceHost, order);
  const area = new RingArea("used ring", BUS_BASE + BigInt(offset), lengthBytes, alignment, Access.WRITE, 4);
  const bytes = new Uint8Array(view(driverHost, order.length * PAGE_BYTES));
  return { space, area, bytes, words: new Uint16Array(bytes.buffer) };
}

/** A space whose segments are given, whatever is asked. */
function fixedSpace(segments: readonly (readonly [number, number])[]): AddressSpace {
  return {
    kind: "iova",
    generation: 1,
    fault: undefined,
    mostPagesPerChain: Number.POSITIVE_INFINITY,
    beginChain() {},
    translate(_low, _high, _length, _access, out) {
      for (const [address, length] of segments) out.append(address, length);
      return Outcome.OK;
    },
  };
}

describe("ring area", () => {
  it("is one view where host memory is contiguous, at any offset", () => {
    const { area, space, words } = makeArea(inOrder(4), 20, 3 * PAGE_BYTES);
    assert.equal(area.resolve(space), Outcome.OK);
    assert.equal(area.words16.length, 1);
    for (const offset of [0, 2, 4074, 4076, 4078, 3 * PAGE_BYTES - 2]) {
      area.store16(offset, 0x1234 + offset);
      assert.equal(words[(20 + offset) / 2], (0x1234 + offset) & 0xffff);
      words[(20 + offset) / 2] = 77;
      assert.equal(area.load16(offset), 77);
    }
  });

  it("reaches the same bytes through a view per page where pages are scattered", () => {
    for (const start of [0, 20, 4092]) {
      const { area, space, words } = makeArea(scattered(5), start, 3 * PAGE_BYTES);
      assert.equal(area.resolve(space), Outcome.OK);
      assert.ok(area.words16.length > 1);
      for (let offset = 0; offset < 3 * PAGE_BYTES; offset += 2) {
        area.store16(offset, offset ^ 0x5555);
        assert.equal(words[(start + offset) / 2], (offset ^ 0x5555) & 0xffff);
      }
    }
  });

  it("keeps its views when it is resolved again and nothing moved", () => {
    const { area, space } = makeArea(scattered(5), 0, 3 * PAGE_BYTES);
    area.resolve(space);
    const views = area.words16;
    space.generation++;
    assert.equal(area.resolve(space), Outcome.OK);
    assert.equal(area.words16, views);
  });

  it("follows a page that moved", () => {
    const order = [0, 1, 2, 3];
    const { area, space, words } = makeArea(order, 0, 2 * PAGE_BYTES);
    area.resolve(space);
    order[1] = 3;
    assert.equal(area.resolve(space), Outcome.OK);
    area.store16(PAGE_BYTES, 99);
    assert.equal(words[PAGE_BYTES / 2], 0);
    assert.equal(words[(3 * PAGE_BYTES) / 2], 99);
  });

  it("drops its views on a miss and finds them again", () => {
    const { area, space } = makeArea(inOrder(4), 0, 3 * PAGE_BYTES);
    area.resolve(space);
    space.missing.add(1);
    assert.equal(area.resolve(space), Outcome.MISS);
    assert.equal(area.words16.length, 0);
    assert.deepEqual([...space.noted], [1]);
    space.missing.clear();
    assert.equal(area.resolve(space), Outcome.OK);
    assert.equal(area.words16.length, 1);
  });

  it("refuses an address that is not aligned as the specification asks", () => {
    const { area, space } = makeArea(inOrder(4), 6, 64);
    assert.equal(area.resolve(space), Outcome.FAULT);
    assert.equal(area.problem?.code, "ring-misaligned");
    assert.match(area.problem?.text ?? "", /used ring at 0x[0-9a-f]+ is not aligned to 4 bytes/);
  });

  it("refuses memory that is outside or read-only, with the reason", () => {
    const outside = makeArea(inOrder(2), PAGE_BYTES, 2 * PAGE_BYTES);
    assert.equal(outside.area.resolve(outside.space), Outcome.FAULT);
    assert.equal(outside.area.problem?.code, "ring-unreachable");
    const readOnly = makeArea(inOrder(2), 0, PAGE_BYTES);
    readOnly.space.readOnly.add(0);
    assert.equal(readOnly.area.resolve(readOnly.space), Outcome.FAULT);
    assert.match(readOnly.area.problem?.text ?? "", /page 0 of the fake memory is read-only/);
  });

  it("refuses a mapping that changes within a page, shifts a page, or breaks the alignment of elements", () => {
    const { deviceHost } = makeMemory(inOrder(8));
    const cases: [string, [number, number][]][] = [
      [
        "within a page",
        [
          [deviceHost, 2048],
          [deviceHost + 3 * PAGE_BYTES, PAGE_BYTES + 2048],
        ],
      ],
      [
        "another offset",
        [
          [deviceHost, PAGE_BYTES],
          [deviceHost + 3 * PAGE_BYTES + 8, PAGE_BYTES],
        ],
      ],
      ["not aligned", [[deviceHost + 2, 2 * PAGE_BYTES]]],
    ];
    for (const [text, segments] of cases) {
      const area = new RingArea("avail ring", 0x10000n, 2 * PAGE_BYTES, 4, Access.READ, 4);
      assert.equal(area.resolve(fixedSpace(segments)), Outcome.FAULT);
      assert.equal(area.problem?.code, "ring-torn");
      assert.match(area.problem?.text ?? "", new RegExp(text));
    }
  });
});
