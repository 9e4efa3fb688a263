import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PeerIotlb } from "./peer-iotlb.js";

const ALL = 2n ** 64n;

describe("the IOTLB of a modelled device", () => {
  it("finds the leftmost mapping of a range, be it behind the first address", () => {
    const iotlb = new PeerIotlb();
    iotlb.add(0x3000n, 0x1000n, 0x30n, 3);
    iotlb.add(0x1000n, 0x1000n, 0x10n, 1);
    assert.equal(iotlb.first(0x0n, 0x3fffn)?.userAddress, 0x10n);
    assert.equal(iotlb.first(0x2000n, 0x3fffn)?.start, 0x3000n);
    assert.equal(iotlb.first(0x4000n, 0x4fffn), undefined);
  });

  it("lets a second mapping of the same range stand behind the first", () => {
    const iotlb = new PeerIotlb();
    iotlb.add(0x1000n, 0x1000n, 0xaan, 3);
    iotlb.add(0x1000n, 0x1000n, 0xbbn, 3);
    assert.equal(iotlb.first(0x1000n, 0x1fffn)?.userAddress, 0xaan);
    iotlb.remove(0x1800n, 1n);
    assert.deepEqual(iotlb.mappings, []);
  });

  it("drops whole mappings, changes its generation, and nothing where nothing is", () => {
    const iotlb = new PeerIotlb();
    iotlb.add(0x1000n, 0x4000n, 0n, 3);
    const before = iotlb.generation;
    iotlb.remove(0x9000n, 0x1000n);
    assert.equal(iotlb.generation, before);
    iotlb.remove(0x2000n, 0x1000n);
    assert.notEqual(iotlb.generation, before);
    assert.equal(iotlb.first(0x1000n, 0x1000n), undefined);
  });

  it("retires the oldest when it is full, at 2048 mappings", () => {
    const iotlb = new PeerIotlb();
    for (let page = 2048n; page > 0n; page--) iotlb.add(page * 0x1000n, 0x1000n, 0n, 3);
    assert.equal(iotlb.mappings.length, 2048);
    iotlb.add(0n, 0x1000n, 0n, 3);
    assert.equal(iotlb.mappings.length, 2048);
    assert.equal(iotlb.first(2048n * 0x1000n, 2048n * 0x1000n), undefined);
    assert.notEqual(iotlb.first(2047n * 0x1000n, 2047n * 0x1000n), undefined);
  });

  it("maps the whole space in two halves, and refuses what wraps around", () => {
    const iotlb = new PeerIotlb();
    assert.ok(iotlb.add(0n, ALL, 0n, 3));
    assert.equal(iotlb.mappings.length, 2);
    assert.equal(iotlb.first(ALL - 1n, ALL - 1n)?.userAddress, 2n ** 63n);
    assert.ok(!iotlb.add(0x1000n, ALL - 0xfffn, 0n, 3));
    assert.ok(!iotlb.add(0x1000n, 0n, 0n, 3));
  });
});
