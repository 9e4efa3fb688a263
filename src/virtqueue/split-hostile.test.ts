import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Outcome } from "../memory/address.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import type { QueueFailureCode } from "./failure.js";
import { DescFlag } from "./layout.js";
import { BUS_BASE, busOf, makeRig, type Rig, type RigOptions } from "./queue-rig.js";
import { MOST_INDIRECT_ENTRIES } from "./split-chain-walker.js";

const { NEXT, WRITE, INDIRECT } = DescFlag;

interface HostileCase {
  readonly name: string;
  readonly code: QueueFailureCode;
  /** What the message has to name. */
  readonly message: RegExp;
  readonly options?: RigOptions;
  /** Writes the evil; the head offered is 3. */
  readonly write: (rig: Rig) => void;
}

/** A table of `length` bytes belonging to descriptor 3, which is the head. */
function referToTable(rig: Rig, length: number, flags: number = INDIRECT, next = 0): void {
  const { rings } = rig.driver;
  rings.writeDescriptor(3, { address: rings.tableAddress(3), length, flags, next });
}

const cases: HostileCase[] = [
  {
    name: "a descriptor that is its own successor",
    code: "chain-loops",
    message: /queue 1: descriptor 3 of the chain at head 3/,
    write: (rig) =>
      rig.driver.rings.writeDescriptor(3, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 3 }),
  },
  {
    name: "a loop over several descriptors",
    code: "chain-loops",
    message: /head 3.*longer than its table/,
    write: (rig) => {
      for (const [index, next] of [
        [3, 5],
        [5, 6],
        [6, 5],
      ])
        rig.driver.rings.writeDescriptor(index, { address: busOf(rig, 0), length: 1, flags: NEXT, next });
    },
  },
  {
    name: "a successor outside of the queue",
    code: "next-out-of-range",
    message: /descriptor 3.*next 8/,
    write: (rig) =>
      rig.driver.rings.writeDescriptor(3, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 8 }),
  },
  {
    name: "a readable descriptor behind a writable one",
    code: "readable-after-writable",
    message: /descriptor 4 of the chain at head 3/,
    write: (rig) => {
      const { rings } = rig.driver;
      rings.writeDescriptor(3, { address: busOf(rig, 0), length: 1, flags: NEXT | WRITE, next: 4 });
      rings.writeDescriptor(4, { address: busOf(rig, 0), length: 1 });
    },
  },
  {
    name: "a buffer outside of memory",
    code: "buffer-unreachable",
    message: /descriptor 3.*readable buffer.*fake memory/,
    write: (rig) => rig.driver.rings.writeDescriptor(3, { address: 0x1000n, length: 1 }),
  },
  {
    name: "a buffer that ends outside of memory",
    code: "buffer-unreachable",
    message: /writable buffer/,
    write: (rig) =>
      rig.driver.rings.writeDescriptor(3, { address: busOf(rig, 0), length: 0xffffffff, flags: WRITE }),
  },
  {
    name: "a buffer that wraps around the end of the address space",
    code: "buffer-unreachable",
    message: /descriptor 3/,
    write: (rig) => rig.driver.rings.writeDescriptor(3, { address: 0xffff_ffff_ffff_fff0n, length: 64 }),
  },
  {
    name: "a writable buffer in memory that the device may only read",
    code: "buffer-unreachable",
    message: /read-only/,
    write: (rig) => {
      rig.space.readOnly.add(rig.at.buffers / 4096);
      rig.driver.rings.writeDescriptor(3, { address: busOf(rig, 0), length: 1, flags: WRITE });
    },
  },
  {
    name: "a chain of more than 2^32 bytes",
    code: "chain-too-large",
    message: /descriptor 4.*2\^32/,
    write: (rig) => {
      rig.device.prepare();
      rig.space.translate = () => Outcome.OK;
      const { rings } = rig.driver;
      rings.writeDescriptor(3, { address: busOf(rig, 0), length: 0xffffffff, flags: NEXT, next: 4 });
      rings.writeDescriptor(4, { address: busOf(rig, 0), length: 2 });
    },
  },
  {
    name: "an indirect table that was not negotiated",
    code: "indirect-not-negotiated",
    message: /descriptor 3.*VIRTIO_F_INDIRECT_DESC/,
    options: { indirect: false },
    write: (rig) => referToTable(rig, 16),
  },
  {
    name: "INDIRECT together with NEXT",
    code: "indirect-with-next",
    message: /descriptor 3/,
    write: (rig) => referToTable(rig, 16, INDIRECT | NEXT, 4),
  },
  {
    name: "an indirect table inside an indirect table",
    code: "indirect-nested",
    message: /entry 1 of the indirect table of descriptor 3/,
    write: (rig) => {
      const { rings } = rig.driver;
      referToTable(rig, 32);
      rings.writeTableEntry(3, 0, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 1 });
      rings.writeTableEntry(3, 1, { address: rings.tableAddress(3), length: 16, flags: INDIRECT });
    },
  },
  {
    name: "an empty indirect table",
    code: "indirect-length",
    message: /table of 0 bytes/,
    write: (rig) => referToTable(rig, 0),
  },
  {
    name: "an indirect table whose length is no multiple of 16",
    code: "indirect-length",
    message: /table of 24 bytes/,
    write: (rig) => referToTable(rig, 24),
  },
  {
    name: "an indirect table beyond the limit",
    code: "indirect-length",
    message: /at most 32768 entries/,
    write: (rig) => referToTable(rig, (MOST_INDIRECT_ENTRIES + 1) * 16),
  },
  {
    name: "an indirect table outside of memory",
    code: "buffer-unreachable",
    message: /descriptor 3.*its indirect table/,
    write: (rig) =>
      rig.driver.rings.writeDescriptor(3, { address: BUS_BASE - 16n, length: 32, flags: INDIRECT }),
  },
  {
    name: "a loop inside an indirect table",
    code: "chain-loops",
    message: /indirect table of descriptor 3/,
    write: (rig) => {
      referToTable(rig, 32);
      rig.driver.rings.writeTableEntry(3, 0, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 1 });
      rig.driver.rings.writeTableEntry(3, 1, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 0 });
    },
  },
  {
    name: "a successor outside of the indirect table",
    code: "next-out-of-range",
    message: /entry 0 of the indirect table of descriptor 3.*next 2/,
    write: (rig) => {
      referToTable(rig, 32);
      rig.driver.rings.writeTableEntry(3, 0, { address: busOf(rig, 0), length: 1, flags: NEXT, next: 2 });
    },
  },
  {
    name: "a readable entry of a table behind a writable descriptor of the queue",
    code: "readable-after-writable",
    message: /entry 0 of the indirect table of descriptor 4 of the chain at head 3/,
    write: (rig) => {
      const { rings } = rig.driver;
      rings.writeDescriptor(3, { address: busOf(rig, 0), length: 1, flags: NEXT | WRITE, next: 4 });
      rings.writeDescriptor(4, { address: rings.tableAddress(4), length: 16, flags: INDIRECT });
      rings.writeTableEntry(4, 0, { address: busOf(rig, 0), length: 1 });
    },
  },
];

describe("a hostile driver breaks its queue, and nothing else, with", () => {
  for (const { name, code, message, options, write } of cases) {
    it(name, () => {
      const rig = makeRig(options);
      write(rig);
      rig.driver.offer(3);
      rig.driver.publish();
      assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
      assert.equal(rig.device.failure?.code, code);
      assert.match(rig.device.failure?.message ?? "", message);
      assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
      assert.equal(rig.device.nextAvail, 0);
    });
  }

  it("a head outside of the queue", () => {
    for (const head of [8, 0xffff]) {
      const rig = makeRig();
      rig.driver.offer(head);
      rig.driver.publish();
      assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
      assert.equal(rig.device.failure?.code, "head-out-of-range");
      assert.match(rig.device.failure?.message ?? "", new RegExp(`head ${head}`));
    }
  });

  it("an avail index that jumps forwards beyond the ring, or backwards", () => {
    for (const index of [9, 0x8000, 0xffff]) {
      for (const look of ["pop", "available", "enableKicks"] as const) {
        const rig = makeRig();
        rig.device.prepare();
        rig.driver.rings.availIndex = index;
        if (look === "pop") assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
        else assert.equal(Number(rig.device[look]()), 0);
        assert.equal(rig.device.failure?.code, "index-jump");
      }
    }
  });

  it("more chains offered than it has descriptors while the device holds others", () => {
    const rig = makeRig();
    const chain = new Chain();
    rig.driver.rings.writeDescriptor(0, { address: busOf(rig, 0), length: 1 });
    for (let i = 0; i < 8; i++) rig.driver.offer(0);
    rig.driver.publish();
    for (let i = 0; i < 8; i++) assert.equal(rig.device.pop(chain), Pop.CHAIN);
    rig.driver.offer(0);
    rig.driver.publish();
    assert.equal(rig.device.pop(chain), Pop.BROKEN);
    assert.equal(rig.device.failure?.code, "index-jump");
  });

  it("a bad chain behind good ones, which are still returned", () => {
    const rig = makeRig();
    const chain = new Chain();
    const head = rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
    rig.driver.offer(99);
    rig.driver.publish();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
    rig.device.push(head, 0);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), head);
  });

  it("takes a chain of exactly the queue's length and of exactly 2^32 bytes for what it is", () => {
    const rig = makeRig();
    rig.device.prepare();
    rig.space.translate = () => Outcome.OK;
    for (let i = 0; i < 8; i++)
      rig.driver.rings.writeDescriptor(i, {
        address: 0n,
        length: 2 ** 29,
        ...(i < 7 ? { flags: NEXT, next: i + 1 } : {}),
      });
    rig.driver.offer(0);
    rig.driver.publish();
    assert.equal(rig.device.pop(new Chain()), Pop.CHAIN, rig.device.failure?.message);
  });
});
