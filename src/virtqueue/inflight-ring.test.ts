import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { InflightRing, inflightBytes } from "./inflight-ring.js";
import { busOf, makeRig } from "./queue-rig.js";
import { SplitDeviceQueue } from "./split-device-queue.js";

const SIZE = 8;

/** A driver, and device after device on its ring: each is killed where it stands. Chains count in the order of the driver. */
class Ring {
  readonly rig = makeRig({ size: SIZE });
  readonly region = new ArrayBuffer(inflightBytes(SIZE));
  readonly #chain = new Chain();
  device = this.#start();
  /** Heads as the driver offered them, and as it got them back. */
  readonly offered: number[] = [];
  readonly returned: number[] = [];
  /** The next chain to pop, the next to push, and the end of those that some device had taken when it was killed. */
  popNext = 0;
  pushNext = 0;
  doubtfulEnd = 0;

  #start(base = 0): SplitDeviceQueue {
    const device = new SplitDeviceQueue({ ...this.rig.deviceSetup, base });
    device.inflight = new InflightRing(this.region, 0, SIZE);
    device.prepare();
    return device;
  }

  offer(): void {
    const { driver } = this.rig;
    if (driver.freeDescriptors === 0) return;
    this.offered.push(driver.add([{ address: busOf(this.rig, 0), length: 44 }], [], 0));
    driver.publish();
  }

  pop(): void {
    const found = this.device.pop(this.#chain);
    assert.equal(found, this.popNext < this.offered.length ? Pop.CHAIN : Pop.EMPTY);
    if (found !== Pop.CHAIN) return;
    assert.equal(this.#chain.head, this.offered[this.popNext]);
    assert.equal(this.device.replayed, this.popNext < this.doubtfulEnd);
    this.popNext++;
  }

  unpop(): void {
    if (this.popNext === this.pushNext) return;
    this.popNext--;
    this.device.unpop(1);
  }

  push(): void {
    if (this.popNext === this.pushNext) return;
    this.device.push(this.offered[this.pushNext++], 0);
  }

  publish(): void {
    this.device.publish();
    const { driver } = this.rig;
    for (let head = driver.pollUsed(); head >= 0; head = driver.pollUsed()) this.returned.push(head);
  }

  /** Dies after the driver can see the used index, before anything more is noted. */
  publishAndDie(): void {
    const noted = new Uint8Array(this.region).slice();
    this.publish();
    new Uint8Array(this.region).set(noted);
    this.kill();
  }

  /** The next device is told a position that means nothing. */
  kill(): void {
    this.doubtfulEnd = Math.max(this.doubtfulEnd, this.popNext);
    this.popNext = this.returned.length;
    this.pushNext = this.returned.length;
    this.device = this.#start(12_345);
  }
}

const STEPS = ["offer", "pop", "unpop", "push", "publish", "publishAndDie", "kill"] as const;

describe("an inflight region", () => {
  it("has the layout of the document: 16 bytes of header, 16 a descriptor, whole cache lines", () => {
    assert.deepEqual([1, 8, 128, 1024].map(inflightBytes), [64, 192, 2112, 16_448]);
    const words = new Uint16Array(inflightBytes(SIZE) / 2);
    const ring = new InflightRing(words.buffer, 0, SIZE);
    assert.deepEqual(ring.recover(7), []);
    ring.popped(3);
    ring.popped(5);
    ring.pushed(3);
    assert.deepEqual(
      [...words.subarray(4, 8)],
      [1, SIZE, 3, 7],
      "version, desc_num, last_batch_head, used_idx",
    );
    assert.equal(words[(16 + 5 * 16) / 2], 1, "desc[5].inflight");
    assert.equal(words[(16 + 5 * 16 + 8) / 2], 2, "desc[5].counter");
    ring.published(8);
    assert.equal(words[(16 + 3 * 16) / 2], 0, "desc[3].inflight");
    assert.equal(words[7], 8);
  });

  it("gives each chain back exactly once, in order, and marks what a killed device had taken", () =>
    fc.assert(
      fc.property(fc.array(fc.constantFrom(...STEPS), { maxLength: 200 }), (steps) => {
        const ring = new Ring();
        for (const step of steps) ring[step]();
        while (ring.popNext < ring.offered.length) ring.pop();
        while (ring.pushNext < ring.popNext) ring.push();
        ring.publish();
        assert.deepEqual(ring.returned, ring.offered);
      }),
    ));

  it("of a ring that was set up anew since means nothing", () => {
    const before = new Ring();
    for (const step of ["offer", "offer", "offer", "pop", "pop", "pop", "push", "publish"] as const)
      before[step]();
    const fresh = makeRig({ size: SIZE });
    const device = new SplitDeviceQueue(fresh.deviceSetup);
    device.inflight = new InflightRing(before.region, 0, SIZE);
    const chain = new Chain();
    fresh.driver.add([{ address: busOf(fresh, 0), length: 44 }], [], 0);
    fresh.driver.publish();
    assert.equal(device.pop(chain), Pop.CHAIN);
    assert.equal(device.replayed, false);
  });

  it("with any content at all breaks nothing", () =>
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: inflightBytes(SIZE), maxLength: inflightBytes(SIZE) }),
        fc.boolean(),
        (bytes, isOurs) => {
          const ring = new Ring();
          for (const step of ["offer", "offer", "pop", "push", "publish", "offer"] as const) ring[step]();
          const region = new Uint8Array(ring.region);
          // With the right version and size in front, the rest is looked at.
          region.set(isOurs ? bytes.subarray(16) : bytes, isOurs ? 16 : 0);
          ring.device = new SplitDeviceQueue(ring.rig.deviceSetup);
          ring.device.inflight = new InflightRing(ring.region, 0, SIZE);
          const chain = new Chain();
          for (const head of ring.offered.slice(ring.returned.length)) {
            assert.equal(ring.device.pop(chain), Pop.CHAIN);
            assert.equal(chain.head, head);
            ring.device.push(head, 0);
          }
          ring.publish();
          assert.deepEqual(ring.returned, ring.offered);
        },
      ),
    ));

  it("of another size, or never used, is empty", () => {
    const region = new ArrayBuffer(inflightBytes(2 * SIZE));
    const wider = new InflightRing(region, 0, 2 * SIZE);
    wider.recover(0);
    wider.popped(1);
    assert.deepEqual(new InflightRing(region, 0, SIZE).recover(0), []);
    assert.deepEqual(new InflightRing(region, 0, 2 * SIZE).recover(0), []);
  });
});
