import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PAGE_BYTES } from "../linux/mapping.js";
import { Outcome } from "../memory/address.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { PackedDeviceQueue } from "./packed-device-queue.js";
import { FIRST_POSITION } from "./packed-layout.js";
import { packedBusOf as busOf, makePackedRig, type PackedRig } from "./packed-rig.js";
import { scattered } from "./queue-rig.js";

function addOne(rig: PackedRig, offset: number): number {
  const id = rig.driver.add([{ address: busOf(rig, offset), length: 8 }], []);
  rig.driver.publish();
  return id;
}

describe("a packed queue's device side", () => {
  it("asks for every page of a chain that is missing at once, and consumes nothing meanwhile", () => {
    const rig = makePackedRig({ order: scattered });
    const id = rig.driver.add(
      [
        { address: busOf(rig, 0), length: 2 * PAGE_BYTES },
        { address: busOf(rig, 3 * PAGE_BYTES), length: 8 },
      ],
      [{ address: busOf(rig, 6 * PAGE_BYTES), length: 8 }],
      undefined,
      false,
    );
    rig.driver.publish();
    const firstPage = rig.at.buffers / PAGE_BYTES;
    for (const page of [0, 1, 6]) rig.space.missing.add(firstPage + page);
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.MISS);
    assert.deepEqual([...rig.space.noted], [firstPage, firstPage + 1, firstPage + 6]);
    assert.equal(rig.device.nextAvail, FIRST_POSITION);
    assert.equal(rig.device.available(), 1);
    rig.space.missing.delete(firstPage);
    assert.equal(rig.device.pop(chain), Pop.MISS);
    rig.space.missing.clear();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(chain.head, id);
    assert.equal(chain.descriptorCount, 3);
    assert.equal(chain.readable.totalBytes, 2 * PAGE_BYTES + 8);
    assert.equal(chain.writable.totalBytes, 8);
  });

  it("asks for an indirect table first and for what it names afterwards", () => {
    const rig = makePackedRig({ size: 1000 });
    rig.driver.add(
      [
        { address: busOf(rig, 0), length: 8 },
        { address: busOf(rig, PAGE_BYTES), length: 8 },
      ],
      [],
    );
    rig.driver.publish();
    const tablePage = Math.floor(rig.at.tables / PAGE_BYTES);
    const firstPage = rig.at.buffers / PAGE_BYTES;
    assert.equal(rig.device.prepare(), Outcome.OK);
    for (const page of [tablePage, firstPage, firstPage + 1]) rig.space.missing.add(page);
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.MISS);
    assert.deepEqual([...rig.space.noted], [tablePage]);
    rig.space.missing.delete(tablePage);
    rig.space.noted.clear();
    assert.equal(rig.device.pop(chain), Pop.MISS);
    assert.deepEqual([...rig.space.noted], [firstPage, firstPage + 1]);
    rig.space.missing.clear();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(chain.descriptorCount, 2);
  });

  it("stops when ring pages are invalidated and continues where it was when they are back", () => {
    const rig = makePackedRig({ firstPosition: 5 });
    const ids = [addOne(rig, 0), addOne(rig, 100), addOne(rig, 200)];
    const chain = new Chain();
    rig.device.pop(chain);
    rig.device.push(chain.head, 1);
    rig.device.publish();
    rig.device.pop(chain);
    rig.space.missing.add(0);
    rig.space.generation++;
    assert.equal(rig.device.prepare(), Outcome.MISS);
    assert.throws(() => rig.device.push(chain.head, 1), /without prepare/);
    rig.space.missing.clear();
    rig.space.generation++;
    assert.equal(rig.device.prepare(), Outcome.OK);
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(chain.head, ids[2]);
    rig.device.push(ids[2], 2);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), ids[0]);
    assert.equal(rig.driver.pollUsed(), ids[2]);
  });

  it("can be taken up where it was stopped, on either lap", () => {
    const rig = makePackedRig({ size: 3 });
    const chain = new Chain();
    let device = rig.device;
    for (let round = 0; round < 20; round++) {
      const taken = addOne(rig, 0);
      const waiting = addOne(rig, 100);
      assert.equal(device.pop(chain), Pop.CHAIN);
      assert.equal(chain.head, taken);
      device.push(taken, 0);
      assert.equal(device.pop(chain), Pop.CHAIN);
      device.unpop(1);
      device.publish();
      const { nextAvail: availPosition, nextUsed: usedPosition } = device;
      assert.equal(availPosition, usedPosition);
      device = new PackedDeviceQueue({ ...rig.deviceSetup, availPosition, usedPosition });
      assert.equal(device.pop(chain), Pop.CHAIN);
      assert.equal(chain.head, waiting);
      device.push(waiting, 0);
      device.publish();
      assert.equal(rig.driver.pollUsed(), taken);
      assert.equal(rig.driver.pollUsed(), waiting);
    }
  });

  it("tells a log of every descriptor and event that it writes", () => {
    const rig = makePackedRig({ size: 3, eventIdx: true, order: scattered });
    const wrote: (readonly [offset: number, length: number])[] = [];
    rig.device.ringLog = { wrote: (_area, offset, length) => wrote.push([offset, length]) };
    rig.device.prepare();
    addOne(rig, 0);
    addOne(rig, 100);
    const chain = new Chain();
    for (let i = 0; i < 2; i++) {
      rig.device.pop(chain);
      rig.device.push(chain.head, 0);
    }
    rig.device.publish();
    assert.deepEqual(wrote, [
      [0, 4],
      [0, 16],
      [16, 16],
      [14, 2],
    ]);
  });

  it("refuses to take back or return what it did not give", () => {
    const rig = makePackedRig();
    assert.throws(() => rig.device.unpop(1), RangeError);
    assert.throws(() => rig.device.push(0, 0), /not popped/);
    assert.throws(() => rig.device.push(7, 0), /not popped/);
    for (const size of [0, 32769])
      assert.throws(() => new PackedDeviceQueue({ ...rig.deviceSetup, size }), RangeError);
  });
});
