/**
 * A driver and a device on one queue, and somebody who looks on from time to time. What was sent is numbered, so that what
 * was seen can be held against it.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { EventLoop } from "../../linux/event-loop.js";
import { PAGE_BYTES } from "../../linux/mapping.js";
import { viewOf } from "../../virtio/index.js";
import { Chain } from "../../virtqueue/chain.js";
import { Pop } from "../../virtqueue/device-queue.js";
import { FIRST_POSITION } from "../../virtqueue/packed-layout.js";
import { makePackedRig } from "../../virtqueue/packed-rig.js";
import type { ComparedQueue } from "../../virtqueue/queue-model.js";
import { BUS_BASE, makeRig, scattered } from "../../virtqueue/queue-rig.js";
import type { ContentReader } from "./buffer-book.js";
import { FollowedRing } from "./followed-ring.js";
import { GuestReader } from "./guest-reader.js";
import type { RingFormat, Side } from "./observed-chain.js";

const SIZE = 8;
/** Each buffer that could be in flight has a place of its own, as in a driver that reuses its buffers. */
const PLACE_BYTES = 256;
const CONTENT_BYTES = 24;
/** Above every number that is sent. */
const NOBODYS = 0xffff_ffff;

class Scene {
  readonly seen: number[] = [];
  readonly faults: string[] = [];
  readonly ring: FollowedRing;
  /** What was sent and is the device's or was: as the device returned it. */
  sent = 0;
  returned = 0;
  readonly #queue: ComparedQueue & { readonly bytes: Uint8Array };
  readonly #loop = new EventLoop();
  readonly #chain = new Chain();
  readonly #freePlaces = Array.from({ length: SIZE }, (_, place) => place);
  readonly #placeOf = new Map<number, number>();
  readonly #taken: { readonly head: number; readonly place: number }[] = [];

  constructor(
    readonly format: RingFormat,
    readonly side: Side,
    first = 0,
  ) {
    const options = { size: SIZE, order: scattered };
    let areas: { desc: number; avail: number; used: number };
    if (format === "split") {
      const rig = makeRig({ ...options, firstIndex: first });
      this.#queue = rig;
      areas = rig.at;
    } else {
      const rig = makePackedRig(options);
      this.#queue = rig;
      areas = { desc: rig.at.desc, avail: rig.at.driverEvent, used: rig.at.deviceEvent };
    }
    const { space } = this.#queue;
    const reader = {
      side,
      read: (...[chain, guest, , isCertain]: Parameters<ContentReader["read"]>) => {
        const bytes = new Uint8Array(CONTENT_BYTES);
        if (chain.byteLength(side) < CONTENT_BYTES) return "gone" as const;
        if (!chain.read(guest, side, 0, bytes)) return "unmapped" as const;
        const number = viewOf(bytes).getUint32(0, true);
        // The last part of a chain repeats what the first says.
        const isWhole = viewOf(bytes).getUint32(CONTENT_BYTES - 4, true) === number;
        if (!isWhole && !isCertain()) return "gone" as const;
        return () => {
          this.ring.traffic.packets++;
          this.seen.push(number);
        };
      },
      recover: () => undefined,
    };
    this.ring = new FollowedRing(this.#loop, new GuestReader(space, space), reader, {
      rang() {},
      fault: (kind) => this.faults.push(kind),
    });
    this.start(format === "split" ? first : FIRST_POSITION | (FIRST_POSITION << 16), areas);
  }

  start(base: number, areas: { desc: number; avail: number; used: number }): void {
    const bus = (offset: number): bigint => BUS_BASE + BigInt(offset);
    const { desc, avail, used } = areas;
    const isStarted = this.ring.start({
      format: this.format,
      size: SIZE,
      base: base >>> 0,
      desc: bus(desc),
      avail: bus(avail),
      used: bus(used),
    });
    assert.ok(isStarted);
  }

  get bytes(): Uint8Array {
    return this.#queue.bytes;
  }

  /** The page of the memory that has the buffers' places, and those before it, that have the ring. */
  get buffersPage(): number {
    return this.#queue.at.buffers / PAGE_BYTES;
  }

  get space(): ComparedQueue["space"] {
    return this.#queue.space;
  }

  look(): void {
    this.ring.look(this.space, true);
  }

  /** The driver makes a buffer available, in one table or in two descriptors; nothing if there is no room. */
  send(inTable: boolean): void {
    const { driver, at } = this.#queue;
    if (driver.freeDescriptors < 2) return;
    const place = this.#freePlaces.shift();
    if (place === undefined) return;
    const start = at.buffers + place * PLACE_BYTES;
    if (this.side === "readable") this.#write(place, ++this.sent);
    // Half the content in each of two descriptors, or all of it in the first, and nothing that was sent in the second.
    const [first, second] =
      place % 2 === 0 ? [CONTENT_BYTES / 2, CONTENT_BYTES / 2] : [CONTENT_BYTES, CONTENT_BYTES];
    const parts = [
      { address: BUS_BASE + BigInt(start), length: first },
      { address: BUS_BASE + BigInt(start + first), length: second },
    ];
    viewOf(this.#queue.bytes).setUint32(start + CONTENT_BYTES, NOBODYS, true);
    const head =
      this.side === "readable"
        ? driver.add(parts, [], place, inTable)
        : driver.add([], parts, place, inTable);
    this.#placeOf.set(head, place);
    driver.publish();
  }

  /**
   * The device takes what there is and returns so many of those, the newest first if it likes to.
   *
   * @param meanwhile once the used elements are written, and not yet their flags, or not yet the index
   */
  use(count: number, newestFirst: boolean, meanwhile = (): void => undefined): void {
    const { device } = this.#queue;
    device.prepare();
    while (device.pop(this.#chain) === Pop.CHAIN) {
      const { head } = this.#chain;
      const place = this.#placeOf.get(head);
      assert.ok(place !== undefined);
      this.#taken.push({ head, place });
    }
    for (let left = count; left > 0; left--) {
      const one = newestFirst ? this.#taken.pop() : this.#taken.shift();
      if (one === undefined) break;
      if (this.side === "writable") this.#write(one.place, ++this.sent);
      device.push(one.head, this.side === "writable" ? CONTENT_BYTES : 0);
      this.returned++;
    }
    meanwhile();
    device.publish();
  }

  /** The driver takes its buffers back. */
  collect(): void {
    const { driver } = this.#queue;
    for (let head = driver.pollUsed(); head >= 0; head = driver.pollUsed()) {
      const place = this.#placeOf.get(head);
      assert.ok(place !== undefined);
      this.#freePlaces.push(place);
    }
    assert.equal(driver.failure, undefined);
  }

  close(): void {
    this.ring.close();
    this.#loop.close();
  }

  #write(place: number, number: number): void {
    const start = this.#queue.at.buffers + place * PLACE_BYTES;
    const data = viewOf(this.#queue.bytes);
    data.setUint32(start, number, true);
    data.setUint32(start + CONTENT_BYTES - 4, number, true);
  }
}

const FORMATS = ["split", "packed"] as const;
const SIDES = ["readable", "writable"] as const;

type Step =
  | { readonly kind: "send"; readonly inTable: boolean }
  | { readonly kind: "use"; readonly count: number; readonly newestFirst: boolean }
  | { readonly kind: "collect" | "look" };

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant("send" as const), inTable: fc.boolean() }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant("use" as const),
        count: fc.integer({ min: 1, max: SIZE }),
        newestFirst: fc.constant(false),
      }),
    },
    { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("collect" as const, "look" as const) }) },
  ),
  { maxLength: 120 },
);

function play(scene: Scene, step: Step): void {
  if (step.kind === "send") scene.send(step.inTable);
  else if (step.kind === "use") scene.use(step.count, step.newestFirst);
  else if (step.kind === "collect") scene.collect();
  else scene.look();
}

describe("a ring that is followed from outside", () => {
  for (const format of FORMATS) {
    for (const side of SIDES) {
      it(`shows all of it, in its order, to one who looks each time: ${format}, ${side}`, () => {
        fc.assert(
          fc.property(steps, fc.constantFrom(0, 65_530), (all, first) => {
            const scene = new Scene(format, side, format === "split" ? first : 0);
            try {
              for (const step of all) {
                play(scene, step);
                scene.look();
              }
              const { used, available, unseen } = scene.ring.traffic;
              assert.deepEqual(
                scene.seen,
                Array.from({ length: scene.sent }, (_, index) => index + 1),
              );
              assert.deepEqual({ used, unseen }, { used: scene.returned, unseen: 0 });
              assert.ok(available >= used);
              assert.deepEqual(scene.faults, []);
            } finally {
              scene.close();
            }
          }),
          { numRuns: 150 },
        );
      });

      it(`shows nothing twice or out of its order to one who looks seldom, and counts the rest: ${format}, ${side}`, () => {
        fc.assert(
          fc.property(steps, (all) => {
            const scene = new Scene(format, side);
            try {
              for (const step of all) play(scene, step);
              scene.look();
              scene.look();
              const { packets, unseen, used } = scene.ring.traffic;
              assert.deepEqual(
                scene.seen,
                [...new Set(scene.seen)].sort((a, b) => a - b),
              );
              assert.ok(scene.seen.every((number) => number >= 1 && number <= scene.sent));
              assert.equal(packets, scene.seen.length);
              assert.deepEqual(scene.faults, []);
              assert.ok(packets + unseen >= used, JSON.stringify(scene.ring.traffic));
              if (format === "split") assert.equal(used, scene.returned);
            } finally {
              scene.close();
            }
          }),
          { numRuns: 400 },
        );
      });
    }
  }

  for (const format of FORMATS) {
    for (const side of SIDES) {
      it(`waits for buffers whose memory is not mapped yet, and for those behind them: ${format}, ${side}`, () => {
        const scene = new Scene(format, side);
        // The device has its mappings before others hear of them.
        const lookTooEarly = (): void => {
          scene.space.missing.add(scene.buffersPage);
          scene.look();
          scene.space.missing.clear();
        };
        scene.send(false);
        scene.send(true);
        lookTooEarly();
        scene.use(2, false);
        lookTooEarly();
        assert.deepEqual(scene.seen, []);
        assert.equal(scene.ring.traffic.used, 2);
        scene.look();
        assert.deepEqual(scene.seen, [1, 2]);
        assert.equal(scene.ring.traffic.unseen, 0);
        scene.close();
      });
    }

    it(`is not read while its own memory is not mapped, and followed from then on: ${format}`, () => {
      const scene = new Scene(format, "readable");
      scene.space.missing.add(0);
      scene.send(false);
      scene.look();
      assert.equal(scene.ring.traffic.available, 0);
      scene.space.missing.clear();
      scene.look();
      assert.deepEqual(scene.seen, [1]);
      scene.close();
    });

    it(`matches buffers with what is used, in whatever order that comes: ${format}`, () => {
      const scene = new Scene(format, "writable");
      for (let count = 0; count < 4; count++) scene.send(true);
      scene.look();
      scene.use(4, true);
      scene.look();
      assert.deepEqual(scene.seen, [1, 2, 3, 4]);
      scene.close();
    });

    it(`has nothing of a returned buffer shown, where one begins to look in the midst of it: ${format}`, () => {
      for (const side of SIDES) {
        for (let rounds = 1; rounds <= 3 * SIZE; rounds++) {
          const scene = new Scene(format, side);
          // Where a mapping could be an old one, nothing strange is shown in any case.
          scene.space.kind = "gpa";
          for (let round = 0; round < rounds; round++) {
            scene.send(false);
            scene.use(1, false);
            scene.collect();
          }
          scene.look();
          scene.look();
          scene.close();
          const strange = scene.seen.filter((number) => number < 1 || number > rounds);
          assert.deepEqual(strange, [], `${side}, after ${rounds}`);
        }
      }
    });

    it(`has nothing shown that was not sent, where one looks while a buffer is returned: ${format}`, () => {
      for (const side of SIDES) {
        const scene = new Scene(format, side);
        scene.space.kind = "gpa";
        for (let round = 1; round <= 3 * SIZE; round++) {
          scene.send(false);
          scene.use(1, false, () => scene.look());
          scene.look();
          scene.collect();
        }
        scene.close();
        const strange = scene.seen.filter((number) => number > scene.sent);
        assert.deepEqual(strange, [], side);
        const { packets, unseen, used } = scene.ring.traffic;
        assert.deepEqual({ counted: packets + unseen, used }, { counted: scene.sent, used: scene.sent });
      }
    });

    it(`may hold anything at all: ${format}`, () => {
      fc.assert(
        fc.property(
          fc.array(fc.record({ at: fc.nat(0x1000), value: fc.integer({ min: 0, max: 255 }) }), {
            minLength: 1,
            maxLength: 200,
          }),
          fc.constantFrom(...SIDES),
          fc.integer({ min: 0, max: 0xffff_ffff }),
          (writes, side, noise) => {
            const scene = new Scene(format, side);
            const random = new Uint8Array(0x1000);
            for (let at = 0, state = noise; at < random.length; at++) {
              state = (Math.imul(state, 1664525) + 1013904223) | 0;
              random[at] = state >>> 24;
            }
            if (noise % 2 === 0) scene.bytes.set(random);
            for (const { at, value } of writes) {
              scene.bytes[at] = value;
              scene.look();
            }
            for (const figure of Object.values(scene.ring.traffic)) assert.ok(Number.isSafeInteger(figure));
            scene.close();
          },
        ),
        { numRuns: 150 },
      );
    });
  }
});
