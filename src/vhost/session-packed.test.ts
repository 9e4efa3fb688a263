/** Packed rings through a whole session: negotiation, bases, sizes, translation, and the reset of one ring. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { signalEventfd } from "../linux/eventfd.js";
import { F, maskOf } from "../virtio/index.js";
import { PackedDriverQueue } from "../virtqueue/packed-driver-queue.js";
import { FIRST_POSITION, placePackedQueue } from "../virtqueue/packed-layout.js";
import {
  type Dma,
  GPA_BASE,
  IOVA_BASE,
  QUEUE_SIZE,
  type Rig,
  VERSION_1_AND_30,
  WITH_BIT_33,
  withRig,
} from "./session-rig.js";
import { FIRST_PACKED_BASE } from "./wire/index.js";

const PACKED = VERSION_1_AND_30 | maskOf(F.RING_PACKED);
const PACKED_WITH_33 = WITH_BIT_33 | maskOf(F.RING_PACKED);

/** A driver's packed rings where the rig has a split driver's: each area on a page of its own. */
function driverOf(rig: Rig, index: number, size: number, firstPosition = FIRST_POSITION) {
  const placed = placePackedQueue(size, 4096);
  const start = rig.ram.host + rig.ram.offsetOf(index);
  return new PackedDriverQueue<string>({
    index,
    size,
    desc: start + placed.desc,
    driverEvent: start + placed.driverEvent,
    deviceEvent: start + placed.deviceEvent,
    eventIdx: true,
    firstPosition,
  });
}

type Driver = ReturnType<typeof driverOf>;

/** Sets up and enables one ring. */
function run(rig: Rig, index: number, size: number, dma: Dma, base = FIRST_PACKED_BASE): void {
  rig.fe.setUpRing({ index, size, base, addresses: rig.ram.addresses(index, dma), kickFd: rig.kicks[index] });
  rig.fe.setVringEnable(index, true);
  rig.settle();
}

function started(rig: Rig, features: bigint, dma: Dma, size = QUEUE_SIZE): Driver {
  rig.connect();
  rig.fe.setFeatures(features);
  rig.fe.addMemReg(rig.ram.region);
  const driver = driverOf(rig, 1, size);
  run(rig, 1, size, dma);
  return driver;
}

function send(rig: Rig, driver: Driver, text: string, dma: Dma = "user-rings"): void {
  const space = dma === "iova" ? IOVA_BASE : GPA_BASE;
  driver.add([{ address: space + BigInt(rig.ram.write(text)), length: text.length }], [], text);
  driver.publish();
  signalEventfd(rig.kicks[1]);
  rig.settle();
}

function returned(driver: Driver): (string | undefined)[] {
  const tokens: (string | undefined)[] = [];
  for (let id = driver.pollUsed(); id >= 0; id = driver.pollUsed()) tokens.push(driver.token(id));
  return tokens;
}

test("a driver that acknowledges RING_PACKED is served packed rings", () => {
  withRig({}, (rig) => {
    const driver = started(rig, PACKED, "user-rings");
    const texts = Array.from({ length: 3 * QUEUE_SIZE }, (_, i) => `packet ${i}`);
    for (const text of texts) {
      send(rig, driver, text);
      assert.deepEqual(returned(driver), [text]);
    }
    assert.deepEqual(rig.received(1), texts);
    assert.equal(rig.log("ring-start")[0].fields?.layout, "packed");
  });
});

test("behind a vIOMMU a packed ring's pages are asked for like those of a split one", () => {
  withRig({}, (rig) => {
    const driver = started(rig, PACKED_WITH_33, "iova");
    send(rig, driver, "translated", "iova");
    assert.deepEqual(rig.received(1), ["translated"]);
    assert.deepEqual(returned(driver), ["translated"]);
    const ring = IOVA_BASE + BigInt(rig.ram.offsetOf(1));
    const asked = rig.misses.map(({ iova }) => iova & ~0xfffn);
    for (const page of [0n, 0x1000n, 0x2000n]) assert.ok(asked.includes(ring + page), `page ${page}`);
  });
});

test("a packed ring may have any size, a split one only a power of two", () => {
  withRig({}, (rig) => {
    const driver = started(rig, PACKED, "user-rings", 7);
    for (let i = 0; i < 20; i++) send(rig, driver, `${i}`);
    assert.equal(rig.received(1).length, 7, "the rest waits for the driver");
    assert.equal(returned(driver).length, 7);
    rig.fe.needReply = true;
    for (const size of [0, 32769])
      assert.throws(() => rig.fe.setVringNum(0, size), { code: "refused" }, `size ${size}`);
  });
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.setFeatures(VERSION_1_AND_30);
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setVringNum(0, 7), { code: "refused" });
  });
});

test("GET_VRING_BASE tells both positions with their wrap counters, and a ring set up with them goes on there", () => {
  withRig({}, (rig) => {
    const driver = started(rig, PACKED, "user-rings", 7);
    for (let round = 0; round < 5; round++) {
      for (const i of [0, 1, 2]) send(rig, driver, `${round} ${i}`);
      returned(driver);
      rig.fe.setVringEnable(1, false);
      const base = rig.fe.getVringBase(1);
      const { avail, used } = driver.position;
      assert.equal(base, ((used << 16) | avail) >>> 0);
      run(rig, 1, 7, "user-rings", base);
    }
    assert.equal(rig.received(1).length, 15);
  });
});

test("base 0, of a front-end that knows split rings only, is a new driver's, unless the ring was stopped there", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.setFeatures(PACKED);
    rig.fe.addMemReg(rig.ram.region);
    let driver = driverOf(rig, 1, 3);
    run(rig, 1, 3, "user-rings", 0);
    send(rig, driver, "new");
    rig.fe.getVringBase(1);
    driver = driverOf(rig, 1, 3);
    run(rig, 1, 3, "user-rings", 0);
    for (const text of ["new again", "second", "third"]) {
      send(rig, driver, text);
      returned(driver);
    }
    assert.equal(rig.fe.getVringBase(1), 0, "the start of the second lap");
    run(rig, 1, 3, "user-rings", 0);
    send(rig, driver, "fourth");
    assert.deepEqual(rig.received(1), ["new", "new again", "second", "third", "fourth"]);
  });
});

test("a base that a packed ring does not have breaks it, and it can be set up anew", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.setFeatures(PACKED);
    rig.fe.addMemReg(rig.ram.region);
    run(rig, 1, 7, "user-rings", 0x8000_8007);
    assert.equal(rig.log("ring-broken")[0].fields?.code, "index-jump");
    const driver = driverOf(rig, 1, 7);
    run(rig, 1, 7, "user-rings");
    send(rig, driver, "fine");
    assert.deepEqual(rig.received(1), ["fine"]);
  });
});

test("a guest that reboots from packed rings into firmware with split ones is served, and the other way round", () => {
  withRig({}, (rig) => {
    const driver = started(rig, PACKED, "user-rings", 7);
    send(rig, driver, "packed");
    rig.fe.getVringBase(1);
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.send(1, "split");
    rig.stop();
    rig.fe.setFeatures(PACKED);
    const again = driverOf(rig, 1, 7);
    run(rig, 1, 7, "user-rings");
    send(rig, again, "packed again");
    assert.deepEqual(rig.received(1), ["packed", "split", "packed again"]);
  });
});

test("rings that were set up before the layout changed wait for new addresses, and the log says so", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.addMemReg(rig.ram.region);
    rig.fe.setUpRing({
      index: 1,
      size: QUEUE_SIZE,
      addresses: rig.ram.addresses(1, "user-rings"),
      kickFd: rig.kicks[1],
    });
    rig.fe.setFeatures(PACKED);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.equal(rig.device.running.size, 0);
    assert.match(rig.log("ring-held")[0].message, /RING_PACKED changed after its addresses had been set/);
  });
});

for (const packed of [false, true]) {
  test(`with RING_RESET one ${packed ? "packed" : "split"} ring is reset while the other goes on`, () => {
    withRig({}, (rig) => {
      const features = (packed ? PACKED : VERSION_1_AND_30) | maskOf(F.RING_RESET);
      rig.connect();
      rig.fe.setFeatures(features);
      rig.fe.addMemReg(rig.ram.region);
      const first = packed ? FIRST_PACKED_BASE : 0;
      const make = (index: number, size: number) =>
        packed ? driverOf(rig, index, size) : rig.ram.driver(index);
      rig.device.idle = true;
      const other = make(0, QUEUE_SIZE);
      let driver = make(1, QUEUE_SIZE);
      run(rig, 0, QUEUE_SIZE, "user-rings", first);
      run(rig, 1, QUEUE_SIZE, "user-rings", first);
      const offer = (queue: typeof driver, text: string): void => {
        const address = GPA_BASE + BigInt(rig.ram.write(text));
        queue.add([{ address, length: text.length }], [], text);
        queue.publish();
        for (const kick of rig.kicks) signalEventfd(kick);
        rig.settle();
      };
      offer(driver, "never seen");

      // VIRTIO 1.4, 2.6.1.1: the device "MUST NOT process any virtqueue requests, notify … or access" it from now on.
      rig.fe.getVringBase(1);
      rig.device.idle = false;
      driver = make(1, packed ? 5 : QUEUE_SIZE);
      offer(driver, "before it is enabled again");
      offer(other, "meanwhile");
      assert.deepEqual(rig.received(1), []);
      assert.deepEqual(rig.received(0), ["meanwhile"]);

      // It is set up anew from its initial state, with another size if the driver likes.
      run(rig, 1, driver.size, "user-rings", first);
      assert.deepEqual(rig.received(1), ["before it is enabled again"]);
      offer(driver, "after");
      assert.deepEqual(rig.received(1), ["before it is enabled again", "after"]);
      assert.deepEqual(
        rig.device.events.filter((event) => event.startsWith("st")),
        ["start 0", "start 1", "stop 1", "start 1"],
      );
    });
  });
}
