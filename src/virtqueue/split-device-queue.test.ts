import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { PAGE_BYTES } from "../linux/mapping.js";
import { Outcome } from "../memory/address.js";
import type { SegmentList } from "../memory/segments.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import { DescFlag } from "./layout.js";
import { BUS_BASE, busOf, makeRig, type Rig, scattered } from "./queue-rig.js";
import { SplitDeviceQueue } from "./split-device-queue.js";

function segmentsOf(list: SegmentList): [number, number][] {
  return Array.from({ length: list.count }, (_, i) => [list.address[i], list.length[i]]);
}

/** Where the device must find byte `offset` of the room for buffers. */
function hostOf(rig: Rig, offset: number): number {
  return rig.space.hostOf(rig.at.buffers + offset);
}

function addOne(rig: Rig, offset: number, length = 100): number {
  const head = rig.driver.add([{ address: busOf(rig, offset), length }], []);
  rig.driver.publish();
  return head;
}

describe("split device queue", () => {
  it("yields a chain's readable and writable buffers as host segments", () => {
    for (const inTable of [false, true]) {
      const rig = makeRig();
      const head = rig.driver.add(
        [
          { address: busOf(rig, 0), length: 44 },
          { address: busOf(rig, 1000), length: 10 },
        ],
        [{ address: busOf(rig, 5000), length: 3 }],
        undefined,
        inTable,
      );
      rig.driver.publish();
      const chain = new Chain();
      assert.equal(rig.device.prepare(), Outcome.OK);
      assert.equal(rig.device.pop(chain), Pop.CHAIN);
      assert.equal(chain.head, head);
      assert.deepEqual(segmentsOf(chain.readable), [
        [hostOf(rig, 0), 44],
        [hostOf(rig, 1000), 10],
      ]);
      assert.deepEqual(segmentsOf(chain.writable), [[hostOf(rig, 5000), 3]]);
      assert.equal(chain.descriptorCount, inTable ? 4 : 3);
      assert.equal(rig.device.pop(chain), Pop.EMPTY);
    }
  });

  it("follows plain descriptors that end in an indirect table, whatever the table's WRITE flag says", () => {
    const rig = makeRig();
    const { rings } = rig.driver;
    rings.writeDescriptor(2, { address: busOf(rig, 0), length: 8, flags: DescFlag.NEXT, next: 5 });
    rings.writeDescriptor(5, {
      address: rings.tableAddress(0),
      length: 32,
      flags: DescFlag.INDIRECT | DescFlag.WRITE,
    });
    rings.writeTableEntry(0, 0, { address: busOf(rig, 100), length: 9, flags: DescFlag.NEXT, next: 1 });
    rings.writeTableEntry(0, 1, { address: busOf(rig, 200), length: 10, flags: DescFlag.WRITE });
    rig.driver.offer(2);
    rig.driver.publish();
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.deepEqual(segmentsOf(chain.readable), [
      [hostOf(rig, 0), 8],
      [hostOf(rig, 100), 9],
    ]);
    assert.deepEqual(segmentsOf(chain.writable), [[hostOf(rig, 200), 10]]);
  });

  it("tolerates descriptors of no bytes, wherever they point", () => {
    const rig = makeRig();
    rig.driver.add(
      [
        { address: 0x1n, length: 0 },
        { address: busOf(rig, 0), length: 5 },
      ],
      [],
      undefined,
      false,
    );
    rig.driver.publish();
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(chain.readable.totalBytes, 5);
  });

  it("shows the driver nothing before publish", () => {
    const rig = makeRig();
    const first = addOne(rig, 0);
    const second = addOne(rig, 100);
    const chain = new Chain();
    rig.device.pop(chain);
    rig.device.pop(chain);
    rig.device.push(second, 7);
    rig.device.push(first, 9);
    assert.equal(rig.driver.pollUsed(), -1);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), second);
    assert.equal(rig.driver.usedLength, 7);
    assert.equal(rig.driver.pollUsed(), first);
    assert.equal(rig.driver.usedLength, 9);
    assert.equal(rig.driver.pollUsed(), -1);
    assert.equal(rig.driver.freeDescriptors, rig.driver.size);
  });

  it("finds unpopped chains again, in order, and continues behind them", () => {
    const rig = makeRig();
    const heads = [addOne(rig, 0), addOne(rig, 100), addOne(rig, 200)];
    const chain = new Chain();
    rig.device.pop(chain);
    rig.device.push(chain.head, 0);
    rig.device.pop(chain);
    rig.device.pop(chain);
    assert.equal(rig.device.available(), 0);
    rig.device.unpop(2);
    assert.equal(rig.device.available(), 2);
    assert.equal(rig.device.nextAvail, 1);
    heads.push(addOne(rig, 300));
    const found: number[] = [];
    while (rig.device.pop(chain) === Pop.CHAIN) found.push(chain.head);
    assert.deepEqual(found, heads.slice(1));
  });

  it("treats more unpops or pushes than chains in flight as a mistake of the device", () => {
    const rig = makeRig();
    addOne(rig, 0);
    const chain = new Chain();
    rig.device.pop(chain);
    assert.throws(() => rig.device.unpop(2), RangeError);
    rig.device.push(chain.head, 0);
    assert.throws(() => rig.device.unpop(1), RangeError);
    assert.throws(() => rig.device.push(chain.head, 0), /not popped/);
  });

  it("starts at the base it was given and takes the used index from the ring", () => {
    const rig = makeRig({ firstIndex: 65534 });
    const heads: number[] = [];
    for (let i = 0; i < 4; i++) heads.push(addOne(rig, i * 100));
    const chain = new Chain();
    rig.device.pop(chain);
    rig.device.push(chain.head, 1);
    rig.device.publish();
    assert.equal(rig.device.nextAvail, 65535);
    assert.equal(rig.driver.rings.usedIndex, 65535);
    // Another device goes on where this one stopped.
    const successor = new SplitDeviceQueue({ ...rig.deviceSetup, base: rig.device.nextAvail });
    for (let i = 1; i < 4; i++) {
      assert.equal(successor.pop(chain), Pop.CHAIN);
      assert.equal(chain.head, heads[i]);
      successor.push(chain.head, i);
    }
    successor.publish();
    for (const head of heads) assert.equal(rig.driver.pollUsed(), head);
    assert.equal(rig.driver.failure, undefined);
  });

  it("reads indirect tables that lie across scattered pages and windows, also where an entry straddles two", () => {
    for (const windowBytes of [undefined, PAGE_BYTES]) {
      for (const start of [PAGE_BYTES - 40, PAGE_BYTES - 16, PAGE_BYTES - 8, PAGE_BYTES - 6, 17]) {
        const rig = makeRig({ order: scattered, ...(windowBytes === undefined ? {} : { windowBytes }) });
        const entries = 5;
        const table = new DataView(rig.bytes.buffer, rig.at.buffers + start, entries * 16);
        const visit = [0, 3, 1, 4, 2];
        visit.forEach((entry, i) => {
          table.setBigUint64(entry * 16, busOf(rig, 3 * PAGE_BYTES + entry * 100), true);
          table.setUint32(entry * 16 + 8, entry + 1, true);
          table.setUint16(entry * 16 + 12, i + 1 < entries ? DescFlag.NEXT : 0, true);
          table.setUint16(entry * 16 + 14, visit[i + 1] ?? 0, true);
        });
        rig.driver.rings.writeDescriptor(0, {
          address: busOf(rig, start),
          length: entries * 16,
          flags: DescFlag.INDIRECT,
        });
        rig.driver.offer(0);
        rig.driver.publish();
        const chain = new Chain();
        assert.equal(rig.device.pop(chain), Pop.CHAIN, rig.device.failure?.message);
        assert.deepEqual(
          segmentsOf(chain.readable),
          visit.map((entry) => [hostOf(rig, 3 * PAGE_BYTES + entry * 100), entry + 1]),
        );
      }
    }
  });
});

describe("split device queue behind an IOTLB", () => {
  it("notes all missing pages of the rings at once and starts when they are mapped", () => {
    const rig = makeRig({ size: 1024 });
    const pages = Math.ceil((rig.at.used + 6 + 8 * 1024) / PAGE_BYTES);
    for (let page = 0; page < pages; page++) rig.space.missing.add(page);
    assert.equal(rig.device.prepare(), Outcome.MISS);
    assert.equal(rig.space.noted.size, pages);
    assert.equal(rig.device.pop(new Chain()), Pop.MISS);
    rig.space.missing.clear();
    assert.equal(rig.device.prepare(), Outcome.OK);
  });

  it("consumes nothing on a miss and notes every missing page of the chain", () => {
    const rig = makeRig();
    const head = rig.driver.add(
      [
        { address: busOf(rig, 0), length: 2 * PAGE_BYTES },
        { address: busOf(rig, 4 * PAGE_BYTES), length: 8 },
      ],
      [{ address: busOf(rig, 6 * PAGE_BYTES), length: 8 }],
      undefined,
      false,
    );
    rig.driver.publish();
    const firstPage = rig.at.buffers / PAGE_BYTES;
    for (const page of [0, 1, 6]) rig.space.missing.add(firstPage + page);
    const chain = new Chain();
    rig.device.prepare();
    rig.space.chainsBegun = 0;
    assert.equal(rig.device.pop(chain), Pop.MISS);
    assert.deepEqual([...rig.space.noted], [firstPage, firstPage + 1, firstPage + 6]);
    assert.equal(rig.device.nextAvail, 0);
    assert.equal(rig.device.available(), 1);
    rig.space.missing.delete(firstPage);
    assert.equal(rig.device.pop(chain), Pop.MISS);
    rig.space.missing.clear();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(chain.head, head);
    assert.equal(chain.readable.totalBytes, 2 * PAGE_BYTES + 8);
    assert.equal(chain.writable.totalBytes, 8);
    assert.equal(rig.space.chainsBegun, 3);
  });

  it("asks for an indirect table first and for what it names afterwards", () => {
    const rig = makeRig({ size: 1024 });
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
  });

  it("stops when ring pages are invalidated and continues where it was when they are back", () => {
    const rig = makeRig({ firstIndex: 10 });
    const heads = [addOne(rig, 0), addOne(rig, 100), addOne(rig, 200)];
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
    assert.equal(chain.head, heads[2]);
    rig.device.push(heads[2], 2);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), heads[0]);
    assert.equal(rig.driver.pollUsed(), heads[2]);
  });

  it("breaks when a ring page comes back without the permission it needs", () => {
    const rig = makeRig();
    assert.equal(rig.device.prepare(), Outcome.OK);
    rig.space.readOnly.add(0);
    rig.space.generation++;
    assert.equal(rig.device.prepare(), Outcome.FAULT);
    assert.equal(rig.device.failure?.code, "ring-unreachable");
    assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
    assert.equal(rig.device.available(), 0);
    assert.equal(rig.device.enableKicks(), false);
    rig.device.publish();
  });

  it("does not need the event fields to be mapped without EVENT_IDX", () => {
    // avail_event, the last two bytes, begins a page of its own.
    const rig = makeRig({ size: 2 });
    rig.space.missing.add(1);
    const used = BUS_BASE + BigInt(PAGE_BYTES - (4 + 8 * 2));
    const without = new SplitDeviceQueue({ ...rig.deviceSetup, used, eventIdx: false });
    assert.equal(without.prepare(), Outcome.OK);
    const withEvents = new SplitDeviceQueue({ ...rig.deviceSetup, used, eventIdx: true });
    assert.equal(withEvents.prepare(), Outcome.MISS);
  });
});
