/**
 * Lost wake-ups. Driver and device run as two programs whose steps interleave at random; each sleeps as soon as the
 * other is said to wake it. If both sleep while there is work, a kick or a notification was lost.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { busOf, makeRig, type Rig } from "./queue-rig.js";

interface Party {
  asleep: boolean;
  /** A wake-up that arrived and was not yet taken. */
  pending: boolean;
}

/** Each `yield` is a point where the other side may run; inside, only one access to shared memory matters. */
function* driverProgram(rig: Rig, self: Party, device: Party, total: number, batch: number, after: number) {
  let sent = 0;
  let returned = 0;
  while (returned < total) {
    rig.driver.disableNotifications();
    yield;
    for (let n = 0; n < batch && sent < total && rig.driver.freeDescriptors > 0; n++, sent++)
      rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
    yield;
    rig.driver.publish();
    yield;
    if (rig.driver.kickNeeded()) device.pending = true;
    yield;
    while (rig.driver.pollUsed() !== -1) {
      returned++;
      yield;
    }
    if (returned === total) break;
    if (sent < total && rig.driver.freeDescriptors > 0) continue;
    // Waiting for more than is in flight would be the driver's own mistake.
    if (rig.driver.enableNotifications(Math.min(after, rig.driver.inFlight - 1))) continue;
    yield;
    self.asleep = true;
    while (!self.pending) yield;
    self.pending = false;
    self.asleep = false;
  }
}

function* deviceProgram(rig: Rig, self: Party, driver: Party, batch: number): Generator<void, void> {
  const chain = new Chain();
  for (;;) {
    rig.device.prepare();
    rig.device.disableKicks();
    yield;
    let popped = Pop.EMPTY as Pop;
    for (let n = 0; n < batch; n++) {
      popped = rig.device.pop(chain);
      yield;
      if (popped !== Pop.CHAIN) break;
      rig.device.push(chain.head, 0);
    }
    rig.device.publish();
    yield;
    if (rig.device.needsNotification()) driver.pending = true;
    yield;
    if (popped === Pop.CHAIN) continue;
    if (rig.device.enableKicks()) continue;
    yield;
    self.asleep = true;
    while (!self.pending) yield;
    self.pending = false;
    self.asleep = false;
  }
}

describe("kicks and notifications", () => {
  for (const eventIdx of [false, true]) {
    it(`are never lost, however both sides interleave, ${eventIdx ? "with" : "without"} EVENT_IDX`, () => {
      const scenario = fc.record({
        size: fc.constantFrom(1, 2, 4, 16),
        firstIndex: fc.oneof(fc.constant(0), fc.integer({ min: 65500, max: 65535 })),
        driverBatch: fc.integer({ min: 1, max: 5 }),
        deviceBatch: fc.integer({ min: 1, max: 5 }),
        after: fc.integer({ min: 0, max: 6 }),
        turns: fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }),
      });
      fc.assert(
        fc.property(scenario, ({ size, firstIndex, driverBatch, deviceBatch, after, turns }) => {
          const rig = makeRig({ size, firstIndex, eventIdx });
          const driver: Party = { asleep: false, pending: false };
          const device: Party = { asleep: false, pending: false };
          const driverRun = driverProgram(rig, driver, device, 60, driverBatch, after);
          const deviceRun = deviceProgram(rig, device, driver, deviceBatch);
          for (let step = 0; step < 100_000; step++) {
            if (turns[step % turns.length]) deviceRun.next();
            else if (driverRun.next().done === true) return;
            const stuck = driver.asleep && device.asleep && !driver.pending && !device.pending;
            assert.ok(!stuck, `both sleep with ${rig.driver.inFlight} chains in flight`);
            // A schedule of one side only is no schedule.
            if (step % turns.length === 0) {
              deviceRun.next();
              if (driverRun.next().done === true) return;
            }
          }
          assert.fail("no end in sight");
        }),
        { numRuns: 300 },
      );
    });
  }

  it("with EVENT_IDX leave used.flags at 0 and ignore avail.flags", () => {
    const rig = makeRig({ eventIdx: true });
    const chain = new Chain();
    rig.device.prepare();
    rig.device.disableKicks();
    assert.equal(rig.driver.rings.usedFlags, 0);
    for (let i = 0; i < 2; i++) {
      rig.driver.rings.availFlags = 1;
      rig.driver.enableNotifications();
      rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
      rig.driver.publish();
      rig.device.pop(chain);
      rig.device.push(chain.head, 0);
      rig.device.publish();
      assert.equal(rig.device.needsNotification(), true);
      rig.driver.pollUsed();
    }
  });

  it("without EVENT_IDX follow the flags", () => {
    const rig = makeRig();
    const chain = new Chain();
    rig.device.prepare();
    const round = (): boolean[] => {
      rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
      rig.driver.publish();
      const kick = rig.driver.kickNeeded();
      rig.device.pop(chain);
      rig.device.push(chain.head, 0);
      rig.device.publish();
      rig.driver.pollUsed();
      return [kick, rig.device.needsNotification()];
    };
    assert.deepEqual(round(), [true, true]);
    rig.device.disableKicks();
    assert.deepEqual(round(), [false, true]);
    rig.driver.disableNotifications();
    assert.deepEqual(round(), [false, false]);
    assert.equal(rig.device.enableKicks(), false);
    assert.deepEqual(round(), [true, false]);
    assert.equal(rig.device.needsNotification(), false);
  });

  it("come once for a batch", () => {
    const rig = makeRig({ eventIdx: true });
    const chain = new Chain();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 4; i++) rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
      rig.driver.enableNotifications();
      rig.driver.publish();
      assert.equal(rig.driver.kickNeeded(), true);
      assert.equal(rig.driver.kickNeeded(), false);
      while (rig.device.pop(chain) === Pop.CHAIN) rig.device.push(chain.head, 0);
      rig.device.publish();
      assert.equal(rig.device.needsNotification(), true);
      assert.equal(rig.device.needsNotification(), false);
      rig.device.enableKicks();
      while (rig.driver.pollUsed() !== -1);
    }
  });

  it("see an addition between the last pop and enableKicks", () => {
    for (const eventIdx of [false, true]) {
      const rig = makeRig({ eventIdx });
      const chain = new Chain();
      assert.equal(rig.device.pop(chain), Pop.EMPTY);
      rig.device.disableKicks();
      rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
      rig.driver.publish();
      assert.equal(rig.device.enableKicks(), true);
      assert.equal(rig.device.pop(chain), Pop.CHAIN);
      assert.equal(rig.device.enableKicks(), false);
    }
  });
});
