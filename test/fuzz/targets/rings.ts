/**
 * Split and packed queues over memory in which the driver writes what it likes, when it likes; the device's calls come in
 * any order that their contract allows. A book is kept of what was popped and pushed, and the used ring has to agree with it.
 */
import assert from "node:assert/strict";
import { Outcome } from "../../../src/memory/address.js";
import { Chain } from "../../../src/virtqueue/chain.js";
import { type DeviceQueue, Pop } from "../../../src/virtqueue/device-queue.js";
import {
  availRingOffset,
  DESC_BYTES,
  placeSplitQueue,
  USED,
  USED_ELEMENT_BYTES,
  usedRingOffset,
} from "../../../src/virtqueue/layout.js";
import { PackedDeviceQueue } from "../../../src/virtqueue/packed-device-queue.js";
import {
  availableFlags,
  EVENT_SUPPRESS_BYTES,
  indexOf,
  PACKED_DESC,
  placePackedQueue,
} from "../../../src/virtqueue/packed-layout.js";
import { SplitDeviceQueue } from "../../../src/virtqueue/split-device-queue.js";
import { BUS_BASE, FuzzMemory, PAGE, type Span } from "../memory.js";
import { Input, type Target } from "../target.js";

const MEMORY_BYTES = 4 * PAGE;

interface Pushed {
  readonly head: number;
  readonly written: number;
}

class QueueRun {
  readonly memory: FuzzMemory;
  readonly queue: DeviceQueue;
  readonly size: number;
  readonly isPacked: boolean;
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  /** Where the device may say what it wants to hear of, at any time; and what the latest step let it write beside that. */
  readonly #wishes: readonly Span[];
  #granted: Span[] = [];
  readonly chain = new Chain();
  /** Popped, in order, and not given back; of those, which were pushed since. */
  readonly #popped: { readonly head: number; isPushed: boolean }[] = [];
  /** Pushed and not yet published. */
  #pushed: Pushed[] = [];
  /** Split: where the used ring stands, since the device first looked. Packed: where what is not published begins. */
  #usedIndex: number | undefined;
  #firstHeld = 0;
  /** The rings may be touched: `prepare` has said so since the generation last changed. */
  #isReady = false;
  /** Broken by a step behind which it shows nowhere whether the rings may be touched: `pop` prepares them by itself. */
  #brokeUnprepared = false;

  constructor(input: Input) {
    const kind = input.u8();
    this.isPacked = (kind & 1) !== 0;
    const [eventIdx, indirect] = [(kind & 2) !== 0, (kind & 4) !== 0];
    this.memory = new FuzzMemory(MEMORY_BYTES, (kind & 8) !== 0 ? 3 : 1);
    const sizeByte = input.u8();
    this.size = this.isPacked ? 1 + (sizeByte % 8) : 1 << (sizeByte & 3);
    const base = input.u16();
    // At the end of a page as often as not, where elements are torn apart; sometimes not aligned at all.
    const where = input.u8();
    const start = (where & 0x80) !== 0 ? PAGE - (where & 0x7f) : 16 * where;
    const shared = {
      index: 0,
      size: this.size,
      ringSpace: this.memory,
      bufferSpace: this.memory,
      hostReader: this.memory,
      eventIdx,
      indirect,
    };
    const bus = (offset: number): bigint => BUS_BASE + BigInt(offset);
    this.desc = start;
    if (this.isPacked) {
      const placed = placePackedQueue(this.size);
      this.avail = start + placed.driverEvent;
      this.used = start + placed.deviceEvent;
      this.#wishes = [{ at: this.used, bytes: EVENT_SUPPRESS_BYTES }];
      const positions = { availPosition: base, usedPosition: base };
      const [driverEvent, deviceEvent] = [bus(this.avail), bus(this.used)];
      this.queue = new PackedDeviceQueue({
        ...shared,
        desc: bus(start),
        driverEvent,
        deviceEvent,
        ...positions,
      });
    } else {
      const placed = placeSplitQueue(this.size);
      this.avail = start + placed.avail;
      this.used = start + placed.used;
      const availEvent = { at: this.used + usedRingOffset(this.size), bytes: eventIdx ? 2 : 0 };
      this.#wishes = [{ at: this.used, bytes: 2 }, availEvent];
      this.#write16(this.avail + 2, base);
      this.#write16(this.used + 2, base);
      this.queue = new SplitDeviceQueue({
        ...shared,
        desc: bus(start),
        avail: bus(this.avail),
        used: bus(this.used),
        base,
      });
    }
  }

  #write16(at: number, value: number): void {
    this.memory.write(at, Uint8Array.of(value & 0xff, (value >> 8) & 0xff));
  }

  // ---- the driver ----

  writeBytes(input: Input): void {
    const at = input.u16() % MEMORY_BYTES;
    this.memory.write(at, input.take(1 + (input.u8() & 31)));
  }

  /** A descriptor, of the ring or in a table: mostly one that points into the memory. */
  writeDescriptor(input: Input): void {
    const slot = input.u8();
    const at = (slot & 0x80) !== 0 ? 2 * PAGE + DESC_BYTES * (slot & 15) : this.desc + DESC_BYTES * slot;
    const target = input.u16();
    const length = input.u16();
    const flags = input.u8();
    const follow = input.u8();
    const bytes = new DataView(new ArrayBuffer(DESC_BYTES));
    // The upper bits of the flags make it another address, or length.
    const address = (flags & 0x20) !== 0 ? BigInt(target) << 44n : BUS_BASE + BigInt(target % MEMORY_BYTES);
    bytes.setBigUint64(0, address, true);
    bytes.setUint32(8, (flags & 0x40) !== 0 ? length << 16 : length % 2048, true);
    const own = flags & 7;
    if (this.isPacked) {
      const isHere = (slot & 0x80) === 0 && slot < this.size;
      const wraps = isHere && slot < indexOf(this.queue.nextAvail) ? 0x8000 : 0;
      const marks = (flags & 0x80) !== 0 ? 0 : availableFlags(this.queue.nextAvail ^ wraps);
      bytes.setUint16(PACKED_DESC.id.offset, follow, true);
      bytes.setUint16(PACKED_DESC.flags.offset, own | marks, true);
    } else {
      bytes.setUint16(12, own, true);
      bytes.setUint16(14, follow, true);
    }
    this.memory.write(at % MEMORY_BYTES, new Uint8Array(bytes.buffer));
  }

  /** Split: one more head in the avail ring. Packed rings know no such thing. */
  offer(head: number): void {
    if (this.isPacked) return;
    const index = this.memory.read16(this.avail + 2);
    this.#write16(this.avail + availRingOffset(index % this.size), head);
    this.#write16(this.avail + 2, index + 1);
  }

  setAvailIndex(value: number): void {
    this.#write16(this.avail + 2, value);
  }

  // ---- the device ----

  /** Also a broken queue has to bear it, and touches its rings only if it could before. */
  get mayTouch(): boolean {
    return this.#isReady || (this.queue.failure !== undefined && !this.#brokeUnprepared);
  }

  #ready(): void {
    this.#isReady = true;
    this.#usedIndex ??= this.memory.read16(this.used + USED.idx.offset);
  }

  /** Mappings changed: nothing may be touched before the next `prepare`. */
  change(): void {
    this.memory.generation++;
    this.#isReady = false;
  }

  prepare(): void {
    const outcome = this.queue.prepare();
    // A queue that broke while its rings were there goes on to give chains back.
    if (outcome === Outcome.OK) this.#ready();
    assert.equal(outcome === Outcome.FAULT, this.queue.failure !== undefined);
  }

  pop(): void {
    const before = this.queue.nextAvail;
    const wasBroken = this.queue.failure !== undefined;
    const found = this.queue.pop(this.chain);
    if (found === Pop.CHAIN || found === Pop.EMPTY) this.#ready();
    else if (found === Pop.BROKEN && !wasBroken) this.#noteBroken();
    assert.ok(!wasBroken || found === Pop.BROKEN, "a broken queue gave a chain");
    assert.equal(found === Pop.BROKEN, this.queue.failure !== undefined);
    if (found !== Pop.CHAIN) {
      assert.equal(this.queue.nextAvail, before, "something was consumed");
      return;
    }
    const { head, readable, writable } = this.chain;
    assert.ok(head < this.size);
    this.memory.assertInside(readable);
    this.memory.assertInside(writable);
    assert.ok(readable.totalBytes + writable.totalBytes <= 2 ** 32);
    const open = this.#open();
    assert.ok(open.length < this.size, "more chains in flight than the queue has descriptors");
    if (this.isPacked)
      assert.ok(!open.some((other) => other.head === head), "two chains in flight with one id");
    this.#popped.push({ head, isPushed: false });
  }

  /** Looks at the rings if a `pop` that missed a buffer has prepared them, and may find the queue broken. */
  available(): void {
    const wasBroken = this.queue.failure !== undefined;
    this.queue.available();
    if (this.queue.failure !== undefined && !wasBroken) this.#noteBroken();
  }

  #noteBroken(): void {
    this.#brokeUnprepared = !this.#isReady;
  }

  #open(): { readonly head: number; isPushed: boolean }[] {
    return this.#popped.filter(({ isPushed }) => !isPushed);
  }

  unpop(count: number): void {
    let given = 0;
    while (given < count && this.#popped.at(-1)?.isPushed === false) {
      this.#popped.pop();
      given++;
    }
    this.queue.unpop(given);
  }

  push(which: number, written: number): void {
    const open = this.#open();
    if (open.length === 0) return;
    const chain = open[which % open.length];
    chain.isPushed = true;
    const at = this.#nextUsedAt();
    if (this.isPacked && this.#pushed.length === 0) this.#firstHeld = this.desc + at;
    this.queue.push(chain.head, written);
    if (!this.#isReady) return;
    this.#pushed.push({ head: chain.head, written });
    if (!this.isPacked) {
      this.#granted.push({ at: this.used + at, bytes: USED_ELEMENT_BYTES });
      return;
    }
    this.#granted.push({ at: this.desc + at + PACKED_DESC.len.offset, bytes: 8 });
    assert.equal(this.memory.read16(this.desc + at + PACKED_DESC.id.offset), chain.head);
    assert.equal(this.memory.read32(this.desc + at + PACKED_DESC.len.offset), written);
  }

  /** Where the next used element, or descriptor, goes. */
  #nextUsedAt(): number {
    if (this.isPacked) return DESC_BYTES * indexOf(this.queue.nextUsed ?? 0);
    return usedRingOffset(((this.#usedIndex ?? 0) + this.#pushed.length) % this.size);
  }

  /** Everything pushed appears, in order, once; and nothing else. */
  publish(): void {
    const pushed = this.#pushed;
    this.queue.publish();
    if (!this.#isReady || pushed.length === 0) return;
    this.#pushed = [];
    if (this.isPacked) {
      this.#granted.push({ at: this.#firstHeld + PACKED_DESC.flags.offset, bytes: 2 });
      return;
    }
    this.#granted.push({ at: this.used + USED.idx.offset, bytes: 2 });
    this.#usedIndex = ((this.#usedIndex ?? 0) + pushed.length) & 0xffff;
    assert.equal(this.memory.read16(this.used + USED.idx.offset), this.#usedIndex, "used.idx");
  }

  check(): void {
    this.memory.assertWritten([...this.#wishes, ...this.#granted], "the queue");
    this.#granted = [];
  }
}

type Step = (run: QueueRun, input: Input) => void;

/** What the driver does. */
const DRIVER: readonly Step[] = [
  (run, input) => run.writeBytes(input),
  (run, input) => run.writeDescriptor(input),
  (run, input) => run.writeDescriptor(input),
  (run, input) => run.offer(input.u8()),
  (run, input) => run.setAvailIndex(input.u16()),
  (run, input) => toggle(run.memory.missing, input.u8() % 4),
  (run, input) => toggle(run.memory.readOnly, input.u8() % 4),
];

/** What the device does, where its contract allows it. */
const DEVICE: readonly Step[] = [
  (run) => run.prepare(),
  (run) => run.pop(),
  (run, input) => run.unpop(input.u8() & 3),
  (run) => run.change(),
  (run) => run.available(),
];

/** Likewise, once the rings are there. */
const DEVICE_READY: readonly Step[] = [
  (run, input) => run.push(input.u8(), input.u16()),
  (run) => run.publish(),
  (run) => void run.queue.needsNotification(),
  (run) => run.queue.disableKicks(),
  (run) => void run.queue.enableKicks(),
];

function toggle(set: Set<number>, item: number): void {
  if (!set.delete(item)) set.add(item);
}

const STEPS = [...DRIVER, ...DEVICE, ...DEVICE_READY];

function run(bytes: Uint8Array): void {
  const input = new Input(bytes);
  const run = new QueueRun(input);
  try {
    while (!input.isAtEnd) {
      const step = input.pick(STEPS);
      if (DEVICE_READY.includes(step) && !run.mayTouch) continue;
      step(run, input);
      run.check();
    }
  } finally {
    run.memory.close();
  }
}

/** Numbers of steps, for seeds. */
const [DESCRIPTOR, OFFER, PREPARE, POP, PUSH, PUBLISH, ASK, KICKS] = [1, 3, 7, 8, 12, 13, 14, 16];

/** A chain of two descriptors goes through the queue. */
function seed(kind: number): Uint8Array {
  const chain = [DESCRIPTOR, 0, 0, 0x30, 44, 0, 1, 1, DESCRIPTOR, 1, 64, 0x30, 0, 1, 2, 0];
  const first = (kind & 1) !== 0 ? [0, 0x80] : [0, 0];
  return Uint8Array.of(
    ...[kind, 3, ...first, 0, PREPARE],
    ...[...chain, OFFER, 0, POP, PUSH, 0, 9, 0, PUBLISH, ASK, KICKS, POP],
  );
}

/** A queue of one descriptor, which the driver offers again while the device holds it, and then once more. */
function greedy(kind: number): Uint8Array {
  const chain = [DESCRIPTOR, 0, 0, 0x30, 44, 0, 0, 0, OFFER, 0];
  const first = (kind & 1) !== 0 ? [0, 0x80] : [0, 0];
  return Uint8Array.of(
    ...[kind, 0, ...first, 0, PREPARE],
    ...[...chain, POP, ...chain, POP, PUSH, 0, 9, 0, PUBLISH, ...chain, POP],
  );
}

export const rings: Target = {
  name: "rings",
  about: "split and packed queues over memory that a hostile driver writes",
  mostBytes: 400,
  seeds: Array.from({ length: 16 }, (_, kind) => [seed(kind), greedy(kind)]).flat(),
  run,
};
