/** Lost wake-ups on packed queues, as `split-notify.test.ts`: two programs whose steps interleave at random. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { EventFlag, FIRST_POSITION } from "./packed-layout.js";
import { packedBusOf as busOf, makePackedRig, type PackedRig } from "./packed-rig.js";

interface Party {
  asleep: boolean;
  /** A wake-up that arrived and was not yet taken. */
  pending: boolean;
}

/** Chains of one to three descriptors: positions move by more than one. */
function add(rig: PackedRig, count: number): number {
  const buffers = Array.from({ length: count }, () => ({ address: busOf(rig, 0), length: 1 }));
  return rig.driver.add(buffers, [], undefined, false);
}

/** Each `yield` is a point where the other side may run; inside, only one access to shared memory matters. */
function* driverProgram(rig: PackedRig, self: Party, device: Party, total: number, batch: number) {
  let sent = 0;
  let returned = 0;
  const longest = Math.min(3, rig.driver.size);
  while (returned < total) {
    rig.driver.disableNotifications();
    yield;
    for (let n = 0; n < batch && sent < total && add(rig, 1 + (sent % longest)) >= 0; n++) sent++;
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
    if (sent < total && rig.driver.freeDescriptors >= longest) continue;
    if (rig.driver.enableNotifications()) continue;
    yield;
    self.asleep = true;
    while (!self.pending) yield;
    self.pending = false;
    self.asleep = false;
  }
}

function* deviceProgram(rig: PackedRig, self: Party, driver: Party, batch: number): Generator<void, void> {
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

/** One chain there and back; whether the driver was to be notified. */
function round(rig: PackedRig, chain: Chain): boolean {
  add(rig, 1);
  rig.driver.publish();
  assert.equal(rig.device.pop(chain), Pop.CHAIN);
  rig.device.push(chain.head, 0);
  rig.device.publish();
  const wanted = rig.device.needsNotification();
  assert.notEqual(rig.driver.pollUsed(), -1);
  return wanted;
}

describe("kicks and notifications of a packed queue", () => {
  for (const eventIdx of [false, true]) {
    it(`are never lost, however both sides interleave, ${eventIdx ? "with" : "without"} EVENT_IDX`, () => {
      const scenario = fc.record({
        size: fc.constantFrom(1, 2, 3, 5, 16),
        first: fc.nat(),
        driverBatch: fc.integer({ min: 1, max: 5 }),
        deviceBatch: fc.integer({ min: 1, max: 5 }),
        turns: fc.array(fc.boolean(), { minLength: 1, maxLength: 200 }),
      });
      fc.assert(
        fc.property(scenario, ({ size, first, driverBatch, deviceBatch, turns }) => {
          const firstPosition = (first % size) | (first % 2 === 0 ? 0x8000 : 0);
          const rig = makePackedRig({ size, firstPosition, eventIdx });
          const driver: Party = { asleep: false, pending: false };
          const device: Party = { asleep: false, pending: false };
          const driverRun = driverProgram(rig, driver, device, 60, driverBatch);
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

  it("follow the driver's wish: enabled, disabled, and a reserved value, which is no wish for silence", () => {
    const rig = makePackedRig();
    const chain = new Chain();
    assert.equal(round(rig, chain), true);
    rig.driver.disableNotifications();
    assert.equal(round(rig, chain), false);
    rig.driver.enableNotifications();
    assert.equal(round(rig, chain), true);
    rig.driver.rings.driverEvent = 3 << 16;
    assert.equal(round(rig, chain), true);
    rig.driver.rings.driverEvent = (EventFlag.DESC << 16) | 0x7fff;
    assert.equal(round(rig, chain), true, "DESC without EVENT_IDX");
  });

  it("with EVENT_IDX come when the descriptor named is passed, and not before", () => {
    const rig = makePackedRig({ eventIdx: true });
    const chain = new Chain();
    rig.driver.rings.driverEvent = (EventFlag.DESC << 16) | FIRST_POSITION | 2;
    assert.equal(round(rig, chain), true, "the first time: who served it before may not have told");
    assert.equal(round(rig, chain), false);
    assert.equal(round(rig, chain), true);
    assert.equal(round(rig, chain), false);
    rig.driver.disableNotifications();
    assert.equal(round(rig, chain), false);
  });

  it("tell the driver where the device has come to, and that it is polling", () => {
    for (const eventIdx of [false, true]) {
      const rig = makePackedRig({ eventIdx });
      const chain = new Chain();
      const asked = (position: number) => (eventIdx ? (EventFlag.DESC << 16) | position : 0);
      rig.device.prepare();
      assert.equal(rig.driver.rings.deviceEvent, asked(FIRST_POSITION));
      rig.device.disableKicks();
      assert.equal(rig.driver.rings.deviceEvent, EventFlag.DISABLE << 16);
      add(rig, 2);
      rig.driver.publish();
      assert.equal(rig.driver.kickNeeded(), false);
      assert.equal(rig.device.enableKicks(), true, "it came while kicks were off");
      rig.device.pop(chain);
      assert.equal(rig.device.enableKicks(), false);
      assert.equal(rig.driver.rings.deviceEvent, asked(FIRST_POSITION | 2));
      add(rig, 1);
      rig.driver.publish();
      assert.equal(rig.driver.kickNeeded(), true);
    }
  });

  it("show nothing of a burst before it is published, and all of it then", () => {
    const rig = makePackedRig();
    const chain = new Chain();
    const ids = [add(rig, 1), add(rig, 2), add(rig, 1)];
    assert.equal(rig.device.pop(chain), Pop.EMPTY, "chains that were not published");
    rig.driver.publish();
    for (const id of ids) {
      assert.equal(rig.device.pop(chain), Pop.CHAIN);
      assert.equal(chain.head, id);
      rig.device.push(id, 0);
    }
    assert.equal(rig.driver.pollUsed(), -1);
    rig.device.publish();
    for (const id of ids) assert.equal(rig.driver.pollUsed(), id);
  });
});
