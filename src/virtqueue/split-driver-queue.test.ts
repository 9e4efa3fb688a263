import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Chain } from "./chain.js";
import { busOf, makeRig, type Rig } from "./queue-rig.js";

/** Writes the used ring as a broken device might. */
function pretendUsed(rig: Rig, id: number, index: number): void {
  const used = rig.bytes.byteOffset + rig.at.used;
  const data = new DataView(rig.bytes.buffer, used, 64);
  data.setUint32(4, id, true);
  data.setUint16(2, index, true);
}

function bufferAt(rig: Rig, offset: number) {
  return { address: busOf(rig, offset), length: 10 };
}

describe("split driver queue", () => {
  it("says when it is full and takes descriptors back when chains return", () => {
    const rig = makeRig({ size: 4 });
    const chain = new Chain();
    const two = [bufferAt(rig, 0), bufferAt(rig, 100)];
    const first = rig.driver.add(two, [], 1, false);
    assert.equal(rig.driver.freeDescriptors, 2);
    assert.equal(rig.driver.add(two, [bufferAt(rig, 0)], 2, false), -1);
    assert.equal(rig.driver.freeDescriptors, 2);
    const second = rig.driver.add(two, [], 3, false);
    assert.equal(rig.driver.add([bufferAt(rig, 0)], [], 4), -1);
    rig.driver.publish();
    rig.device.pop(chain);
    rig.device.pop(chain);
    rig.device.push(second, 0);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), second);
    assert.equal(rig.driver.token(second), 3);
    assert.equal(rig.driver.freeDescriptors, 2);
    assert.equal(rig.driver.inFlight, 1);
    assert.equal(rig.driver.token(first), 1);
  });

  it("takes one descriptor for a chain in a table, and refuses more buffers than the table holds", () => {
    const rig = makeRig({ size: 4, tableEntries: 3 });
    const three = [0, 1, 2].map((i) => bufferAt(rig, i * 100));
    for (let i = 0; i < 4; i++) assert.notEqual(rig.driver.add(three, []), -1);
    assert.equal(rig.driver.freeDescriptors, 0);
    const other = makeRig({ tableEntries: 2 });
    assert.equal(other.driver.add(three, []), -1);
    assert.equal(other.driver.freeDescriptors, 8);
  });

  it("makes many chains available with one publish", () => {
    const rig = makeRig();
    for (let i = 0; i < 5; i++) rig.driver.add([bufferAt(rig, i)], []);
    assert.equal(rig.driver.rings.availIndex, 0);
    rig.driver.publish();
    assert.equal(rig.driver.rings.availIndex, 5);
  });

  it("recognizes a device that returns what is not in flight", () => {
    for (const [id, index, code] of [
      [99, 1, "head-out-of-range"],
      [5, 1, "head-not-in-flight"],
      [0, 2, "index-jump"],
      [0, 0xffff, "index-jump"],
    ] as const) {
      const rig = makeRig();
      const head = rig.driver.add([bufferAt(rig, 0)], []);
      assert.equal(head, 0);
      rig.driver.publish();
      pretendUsed(rig, id, index);
      assert.equal(rig.driver.pollUsed(), -1);
      assert.equal(rig.driver.failure?.code, code);
      assert.match(rig.driver.failure?.message ?? "", /queue 1/);
      assert.equal(rig.driver.enableNotifications(), false, "nothing is left to poll for");
    }
  });

  it("asks for notifications only after as many returns as it says, with EVENT_IDX", () => {
    const rig = makeRig({ eventIdx: true });
    const chain = new Chain();
    const told: boolean[] = [];
    for (let i = 0; i < 6; i++) rig.driver.add([bufferAt(rig, i)], []);
    rig.driver.publish();
    const giveBackOne = (): void => {
      rig.device.pop(chain);
      rig.device.push(chain.head, 0);
      rig.device.publish();
      told.push(rig.device.needsNotification());
    };
    giveBackOne();
    rig.driver.pollUsed();
    assert.equal(rig.driver.enableNotifications(2), false);
    for (let i = 0; i < 4; i++) giveBackOne();
    // The first is always told: who served the ring before may have kept silent.
    assert.deepEqual(told, [true, false, false, true, false]);
    assert.equal(rig.driver.enableNotifications(2), true);
  });

  it("keeps each area within its bytes", () => {
    const rig = makeRig({ size: 2 });
    const chain = new Chain();
    for (let round = 0; round < 10; round++) {
      rig.driver.add([bufferAt(rig, 0)], [bufferAt(rig, 50)], undefined, false);
      rig.driver.publish();
      rig.device.pop(chain);
      rig.device.push(chain.head, 10);
      rig.device.publish();
      assert.notEqual(rig.driver.pollUsed(), -1);
    }
    const padding = rig.bytes.subarray(rig.at.used + 6 + 16, rig.at.tables);
    assert.ok(padding.every((byte) => byte === 0));
  });
});
