import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Outcome } from "../memory/address.js";
import { Chain } from "./chain.js";
import { Pop } from "./device-queue.js";
import type { QueueFailureCode } from "./failure.js";
import { DescFlag } from "./layout.js";
import { PackedDeviceQueue } from "./packed-device-queue.js";
import type { RawPackedDescriptor } from "./packed-driver-rings.js";
import { availableFlags, FIRST_POSITION, PackedFlag } from "./packed-layout.js";
import { packedBusOf as busOf, makePackedRig, type PackedRig, type PackedRigOptions } from "./packed-rig.js";
import { BUS_BASE } from "./queue-rig.js";
import { MOST_INDIRECT_ENTRIES } from "./split-chain-walker.js";

const { NEXT, WRITE, INDIRECT } = DescFlag;
const SIZE = 7;

/** Makes descriptors available from the start of the ring, the first one last. */
function offer(rig: PackedRig, ...descriptors: RawPackedDescriptor[]): void {
  for (let slot = descriptors.length - 1; slot >= 0; slot--) {
    const { flags = 0, ...rest } = descriptors[slot];
    rig.driver.rings.writeDescriptor(slot, { ...rest, flags: flags | availableFlags(FIRST_POSITION) });
  }
}

interface HostileCase {
  readonly name: string;
  readonly code: QueueFailureCode;
  /** What the message has to name. */
  readonly message: RegExp;
  readonly options?: PackedRigOptions;
  readonly write: (rig: PackedRig) => void;
}

const one = (rig: PackedRig, flags = 0): RawPackedDescriptor => ({
  address: busOf(rig, 0),
  length: 1,
  flags,
});
const table = (rig: PackedRig, length: number, flags = 0): RawPackedDescriptor => ({
  address: rig.driver.rings.tableAddress(0),
  length,
  flags: INDIRECT | flags,
});

const cases: HostileCase[] = [
  {
    name: "a chain that goes around the whole ring",
    code: "chain-loops",
    message: /queue 1: descriptor 0 of the chain at descriptor 0: .*runs into itself/,
    write: (rig) => offer(rig, ...Array.from({ length: SIZE }, () => one(rig, NEXT))),
  },
  {
    name: "a readable descriptor behind a writable one",
    code: "readable-after-writable",
    message: /descriptor 1 of the chain at descriptor 0/,
    write: (rig) => offer(rig, one(rig, NEXT | WRITE), one(rig)),
  },
  {
    name: "a buffer outside of memory",
    code: "buffer-unreachable",
    message: /descriptor 0.*readable buffer.*fake memory/,
    write: (rig) => offer(rig, { address: 0x1000n, length: 1 }),
  },
  {
    name: "a buffer that ends outside of memory",
    code: "buffer-unreachable",
    message: /writable buffer/,
    write: (rig) => offer(rig, { address: busOf(rig, 0), length: 0xffffffff, flags: WRITE }),
  },
  {
    name: "a buffer that wraps around the end of the address space",
    code: "buffer-unreachable",
    message: /descriptor 0/,
    write: (rig) => offer(rig, { address: 0xffff_ffff_ffff_fff0n, length: 64 }),
  },
  {
    name: "a writable buffer in memory that the device may only read",
    code: "buffer-unreachable",
    message: /read-only/,
    write: (rig) => {
      rig.space.readOnly.add(rig.at.buffers / 4096);
      offer(rig, one(rig, WRITE));
    },
  },
  {
    name: "a chain of more than 2^32 bytes",
    code: "chain-too-large",
    message: /descriptor 1.*2\^32/,
    write: (rig) => {
      rig.device.prepare();
      rig.space.translate = () => Outcome.OK;
      offer(rig, { address: 0n, length: 0xffffffff, flags: NEXT }, { address: 0n, length: 2 });
    },
  },
  {
    name: "a buffer id that no descriptor of the queue has",
    code: "head-out-of-range",
    message: /buffer id 7, the queue has 7 descriptors/,
    write: (rig) => offer(rig, { ...one(rig), id: SIZE }),
  },
  {
    name: "an indirect table that was not negotiated",
    code: "indirect-not-negotiated",
    message: /descriptor 0.*VIRTIO_F_INDIRECT_DESC/,
    options: { indirect: false },
    write: (rig) => offer(rig, table(rig, 16)),
  },
  {
    name: "INDIRECT together with NEXT",
    code: "indirect-with-next",
    message: /descriptor 0/,
    write: (rig) => offer(rig, table(rig, 16, NEXT), one(rig)),
  },
  {
    name: "an indirect table inside an indirect table",
    code: "indirect-nested",
    message: /entry 1 of the indirect table of descriptor 0/,
    write: (rig) => {
      const { rings } = rig.driver;
      rings.writeTableEntry(0, 0, one(rig));
      rings.writeTableEntry(0, 1, table(rig, 16));
      offer(rig, table(rig, 32));
    },
  },
  {
    name: "an empty indirect table",
    code: "indirect-length",
    message: /table of 0 bytes/,
    write: (rig) => offer(rig, table(rig, 0)),
  },
  {
    name: "an indirect table whose length is no multiple of 16",
    code: "indirect-length",
    message: /table of 24 bytes/,
    write: (rig) => offer(rig, table(rig, 24)),
  },
  {
    name: "an indirect table beyond the limit",
    code: "indirect-length",
    message: /at most 32768 entries/,
    write: (rig) => offer(rig, table(rig, (MOST_INDIRECT_ENTRIES + 1) * 16)),
  },
  {
    name: "an indirect table outside of memory",
    code: "buffer-unreachable",
    message: /descriptor 0.*its indirect table/,
    write: (rig) => offer(rig, { address: BUS_BASE - 16n, length: 32, flags: INDIRECT }),
  },
  {
    name: "a readable entry of a table behind a writable descriptor of the ring",
    code: "readable-after-writable",
    message: /entry 0 of the indirect table of descriptor 1 of the chain at descriptor 0/,
    write: (rig) => {
      rig.driver.rings.writeTableEntry(0, 0, one(rig));
      offer(rig, one(rig, NEXT | WRITE), table(rig, 16));
    },
  },
];

describe("a hostile driver breaks its packed queue, and nothing else, with", () => {
  for (const { name, code, message, options, write } of cases) {
    it(name, () => {
      const rig = makePackedRig({ size: SIZE, ...options });
      write(rig);
      assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
      assert.equal(rig.device.failure?.code, code);
      assert.match(rig.device.failure?.message ?? "", message);
      assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
      assert.equal(rig.device.nextAvail, FIRST_POSITION);
      assert.equal(rig.device.available(), 0);
      assert.equal(rig.device.enableKicks(), false);
    });
  }

  it("a buffer id that is in flight", () => {
    const rig = makePackedRig({ size: SIZE });
    offer(rig, { ...one(rig), id: 3 }, { ...one(rig), id: 3 });
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(rig.device.pop(chain), Pop.BROKEN);
    assert.equal(rig.device.failure?.code, "id-in-flight");
    rig.device.push(3, 0);
    rig.device.publish();
    assert.equal(rig.device.failure?.code, "id-in-flight");
  });

  it("a descriptor that is available again while it is in flight", () => {
    const rig = makePackedRig({ size: SIZE });
    offer(rig, ...Array.from({ length: SIZE }, (_, id) => ({ ...one(rig), id })));
    const chain = new Chain();
    for (let i = 0; i < SIZE; i++) assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(rig.device.pop(chain), Pop.EMPTY);
    rig.driver.rings.setFlags(0, PackedFlag.USED);
    assert.equal(rig.device.available(), 0);
    assert.equal(rig.device.pop(chain), Pop.BROKEN);
    assert.equal(rig.device.failure?.code, "index-jump");
  });

  it("a chain that runs into one in flight", () => {
    const rig = makePackedRig({ size: SIZE });
    offer(rig, { ...one(rig), id: 1 }, ...Array.from({ length: SIZE - 1 }, () => one(rig, NEXT)));
    const chain = new Chain();
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(rig.device.pop(chain), Pop.BROKEN);
    assert.equal(rig.device.failure?.code, "chain-loops");
  });

  it("a base that its ring does not have", () => {
    const { deviceSetup } = makePackedRig({ size: SIZE });
    for (const positions of [{ availPosition: 7 }, { usedPosition: 0xffff }]) {
      const device = new PackedDeviceQueue({ ...deviceSetup, ...positions });
      assert.equal(device.prepare(), Outcome.FAULT);
      assert.equal(device.failure?.code, "index-jump");
    }
  });

  it("misaligned areas", () => {
    const { deviceSetup } = makePackedRig({ size: SIZE });
    for (const area of ["desc", "driverEvent", "deviceEvent"] as const) {
      const device = new PackedDeviceQueue({ ...deviceSetup, [area]: deviceSetup[area] + 2n });
      assert.equal(device.prepare(), Outcome.FAULT);
      assert.equal(device.failure?.code, "ring-misaligned");
    }
  });

  it("a ring that may only be read", () => {
    const rig = makePackedRig({ size: SIZE });
    rig.space.readOnly.add(0);
    assert.equal(rig.device.prepare(), Outcome.FAULT);
    assert.equal(rig.device.failure?.code, "ring-unreachable");
  });

  it("a bad chain behind good ones, which are still returned", () => {
    const rig = makePackedRig({ size: SIZE });
    const chain = new Chain();
    const id = rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
    rig.driver.publish();
    rig.driver.rings.writeDescriptor(1, {
      address: 1n,
      length: 1,
      id: 5,
      flags: availableFlags(FIRST_POSITION),
    });
    assert.equal(rig.device.pop(chain), Pop.CHAIN);
    assert.equal(rig.device.pop(new Chain()), Pop.BROKEN);
    rig.device.push(id, 0);
    rig.device.publish();
    assert.equal(rig.driver.pollUsed(), id);
  });

  it("takes a chain of exactly the queue's length and of exactly 2^32 bytes for what it is", () => {
    const rig = makePackedRig({ size: 8 });
    rig.device.prepare();
    rig.space.translate = () => Outcome.OK;
    offer(
      rig,
      ...Array.from({ length: 8 }, (_, i) => ({ address: 0n, length: 2 ** 29, flags: i < 7 ? NEXT : 0 })),
    );
    assert.equal(rig.device.pop(new Chain()), Pop.CHAIN, rig.device.failure?.message);
  });
});

describe("a hostile device does not confuse the driver of a packed queue with", () => {
  for (const [name, id, code] of [
    ["an id that the queue does not have", SIZE, "head-out-of-range"],
    ["an id that is not in flight", 3, "head-not-in-flight"],
  ] as const) {
    it(name, () => {
      const rig = makePackedRig({ size: SIZE });
      rig.driver.add([{ address: busOf(rig, 0), length: 1 }], []);
      rig.driver.publish();
      rig.driver.rings.setId(0, id);
      rig.driver.rings.setFlags(0, PackedFlag.AVAIL | PackedFlag.USED);
      assert.equal(rig.driver.pollUsed(), -1);
      assert.equal(rig.driver.failure?.code, code);
      assert.equal(rig.driver.enableNotifications(), false, "nothing is left to poll for");
      assert.equal(rig.driver.pollUsed(), -1);
    });
  }
});
