/** VIRTIO_F_IN_ORDER on the driver's side: a used entry that stands for several chains. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { view } from "../linux/mapping.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { makePackedRig, packedBusOf } from "./packed-rig.js";
import { busOf, makeRig } from "./queue-rig.js";

const returned = (queue: { pollUsed(): number; readonly usedLength: number }): number[][] => {
  const all: number[][] = [];
  for (let head = queue.pollUsed(); head >= 0; head = queue.pollUsed()) all.push([head, queue.usedLength]);
  return all;
};

describe("a driver with IN_ORDER", () => {
  it("takes one used element of a split ring for all chains up to it, and those before it for full", () => {
    const rig = makeRig({ inOrder: true });
    for (let round = 0; round < 20; round++) {
      const heads = [10, 20, 30].map((length) => rig.driver.add([], [{ address: busOf(rig, 0), length }]));
      rig.driver.publish();
      // What a device may do: the element of the last chain, at the place of the first one.
      const slot = (3 * round) % 8;
      const used = new Uint32Array(view(rig.hostOf(rig.at.used + 4 + 8 * slot), 8));
      used[0] = heads[2];
      used[1] = 7;
      rig.driver.rings.usedIndex = (3 * round + 3) & 0xffff;
      assert.deepEqual(returned(rig.driver), [
        [heads[0], 10],
        [heads[1], 20],
        [heads[2], 7],
      ]);
    }
  });

  it("uses the descriptors of a split ring in the order of the table", () => {
    const rig = makeRig({ inOrder: true });
    const chain = new Chain();
    const heads: number[] = [];
    for (let i = 0; i < 20; i++) {
      heads.push(rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []));
      rig.driver.publish();
      assert.equal(rig.device.pop(chain), Pop.CHAIN);
      rig.device.push(chain.head, 0);
      rig.device.publish();
      assert.equal(rig.driver.pollUsed(), heads[i]);
    }
    assert.deepEqual(
      heads,
      heads.map((_, i) => i % 8),
    );
  });

  it("takes one used descriptor of a packed ring for all chains up to it, and those before it for full", () => {
    const rig = makePackedRig({ size: 7, inOrder: true });
    for (let round = 0; round < 20; round++) {
      const { avail } = rig.driver.position;
      const ids = [10, 20, 30].map((length) =>
        rig.driver.add([], [{ address: packedBusOf(rig, 0), length }]),
      );
      rig.driver.publish();
      const slot = avail & 0x7fff;
      rig.driver.rings.setBuffer(slot, 0, 0, 7);
      rig.driver.rings.setId(slot, ids[2]);
      rig.driver.rings.setFlags(slot, 2 | ((avail & 0x8000) !== 0 ? 0x8080 : 0));
      assert.deepEqual(returned(rig.driver), [
        [ids[0], 10],
        [ids[1], 20],
        [ids[2], 7],
      ]);
    }
    assert.equal(rig.driver.freeDescriptors, 7);
  });

  it("takes what comes back one by one just the same", () => {
    for (const rig of [makeRig({ inOrder: true }), makePackedRig({ size: 8, inOrder: true })]) {
      const chain = new Chain();
      const address = 0xffff_fffe_ff00_0000n + BigInt(rig.at.buffers);
      for (let round = 0; round < 20; round++) {
        const heads = [1, 2, 3].map(() => rig.driver.add([{ address, length: 4 }], [{ address, length: 9 }]));
        rig.driver.publish();
        for (const head of heads) {
          assert.equal(rig.device.pop(chain), Pop.CHAIN);
          assert.equal(chain.head, head);
          rig.device.push(head, 5);
        }
        rig.device.publish();
        assert.deepEqual(
          returned(rig.driver),
          heads.map((head) => [head, 5]),
        );
      }
    }
  });
});
