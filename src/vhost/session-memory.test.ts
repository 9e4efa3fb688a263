import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { test } from "node:test";
import { drainEventfd } from "../linux/eventfd.js";
import { createMemfd } from "../linux/mapping.js";
import { Outcome } from "../memory/address.js";
import type { SharedRegion } from "./front-end-session.js";
import {
  GPA_BASE,
  IOVA_BASE,
  MEMORY_BYTES,
  type Rig,
  USER_BASE,
  VERSION_1_AND_30,
  WITH_BIT_33,
  withRig,
} from "./session-rig.js";
import { IOTLB_PERM } from "./wire/index.js";

/** A region somewhere else, over the memory of the rig. */
function elsewhere(rig: Rig, slot: number): SharedRegion {
  const far = BigInt(slot + 1) * 0x1000_0000n;
  return { ...rig.ram.region, guestAddress: GPA_BASE + far, userAddress: USER_BASE + far, size: 0x1000n };
}

test("a memory table may have 509 regions, added one by one, and not one more", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    assert.equal(rig.fe.getMaxMemSlots(), 509);
    for (let slot = 0; slot < 508; slot++) rig.fe.addMemReg(elsewhere(rig, slot));
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "the last slot");
    assert.deepEqual(rig.received(1), ["the last slot"]);
    assert.throws(() => rig.fe.addMemReg(elsewhere(rig, 508)), { code: "refused" });
  });
});

test("memory that is plugged in while rings run can be used, and unplugging it leaves the rest alone", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    const more = elsewhere(rig, 0);
    rig.fe.needReply = true;
    rig.fe.addMemReg(more);
    rig.ram.bytes.set(new TextEncoder().encode("plugged"), 0);
    rig.drivers[1].add([{ address: more.guestAddress, length: 7 }], []);
    rig.drivers[1].publish();
    rig.device.processAll();
    assert.deepEqual(rig.received(1), ["plugged"]);
    rig.fe.remMemReg(more);
    rig.send(1, "still here");
    assert.deepEqual(rig.received(1), ["plugged", "still here"]);
    assert.equal(rig.log("memory-region-removed").length, 1);
  });
});

test("REM_MEM_REG takes a descriptor along and closes it unused", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    rig.fe.addMemReg(rig.ram.region);
    rig.fe.remMemReg(rig.ram.region, [rig.ram.fd]);
    assert.throws(() => rig.fe.remMemReg(rig.ram.region), { code: "refused" });
  });
});

test("a region that goes away and comes back while its rings run: they stop, and go on where they were", () => {
  for (const iotlb of ["auto", "off"] as const) {
    withRig({ iotlb }, (rig) => {
      rig.connect();
      rig.start(VERSION_1_AND_30, "user-rings");
      rig.send(1, "before");
      rig.fe.needReply = true;
      rig.fe.remMemReg(rig.ram.region);
      assert.equal(rig.device.running.size, 0);
      rig.send(1, "meanwhile");
      assert.deepEqual(rig.received(1), ["before"]);
      rig.fe.addMemReg(rig.ram.region);
      rig.settle();
      assert.deepEqual(rig.received(1), ["before", "meanwhile"]);
      rig.send(1, "after");
      assert.deepEqual(rig.received(1), ["before", "meanwhile", "after"]);
      assert.deepEqual(rig.log("ring-broken"), []);
      assert.match(
        rig.log("ring-stop")[1].message,
        /queue 1 stopped at position 1: the memory of its rings was taken/,
      );
      assert.ok(drainEventfd(rig.errors[1]) < 0, "nothing is wrong with the ring");
      assert.deepEqual(rig.stop(), [0, 3]);
    });
  }
});

test("only the rings whose memory went away stop, and they may come back somewhere else in the guest", () => {
  withRig({}, (rig) => {
    rig.connect();
    const { region } = rig.ram;
    // The first 128 KiB hold queue 0, the rest queue 1 and all buffers.
    const split = 0x20000n;
    const low = { ...region, size: split };
    const high = {
      ...region,
      guestAddress: GPA_BASE + split,
      userAddress: USER_BASE + split,
      size: BigInt(MEMORY_BYTES) - split,
      mmapOffset: split,
    };
    rig.fe.addMemReg(low);
    rig.fe.addMemReg(high);
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.fe.remMemReg(low);
    rig.send(1, "goes on");
    assert.deepEqual([...rig.device.running.keys()], [1]);
    rig.fe.addMemReg({ ...low, guestAddress: GPA_BASE + 0x4000_0000n });
    rig.send(0, "again");
    assert.deepEqual([...rig.device.running.keys()], [1, 0]);
    assert.deepEqual([rig.received(0), rig.received(1)], [["again"], ["goes on"]]);
  });
});

test("a ring that lies outside of the memory table waits, is reported once, and starts when memory comes", () => {
  withRig({ iotlb: "off" }, (rig) => {
    rig.connect();
    rig.fe.addMemReg(elsewhere(rig, 0));
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.fe.addMemReg(elsewhere(rig, 1));
    assert.equal(rig.device.running.size, 0);
    assert.equal(rig.log("ring-held").length, 2);
    assert.equal(drainEventfd(rig.errors[1]), 8);
    rig.fe.needReply = true;
    rig.fe.addMemReg(rig.ram.region);
    rig.send(1, "at last");
    assert.deepEqual(rig.received(1), ["at last"]);
  });
});

test("memory that can become shorter is mentioned once a session, with what that may do", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.addMemReg(rig.ram.region);
    assert.deepEqual(rig.log("memory-not-sealed"), []);
    const unsealed = createMemfd("unsealed", 4096, { sealShrink: false });
    for (const slot of [0, 1]) rig.fe.addMemReg({ ...elsewhere(rig, slot), fd: unsealed });
    rig.settle();
    assert.equal(rig.log("memory-not-sealed").length, 1);
    assert.match(rig.log("memory-not-sealed")[0].message, /^the file behind region gpa=0x\w+ .* SIGBUS$/);
    closeSync(unsealed);
  });
});

test("SET_MEM_TABLE while rings run: they find their memory at its new place", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "before");
    rig.fe.needReply = true;
    rig.fe.setMemTable([elsewhere(rig, 3), rig.ram.region]);
    rig.send(1, "after");
    assert.deepEqual(rig.received(1), ["before", "after"]);
  });
});

test("two regions over one file, the second from its middle, as a 5 GiB guest has them", () => {
  withRig({}, (rig) => {
    rig.connect();
    const half = BigInt(MEMORY_BYTES / 2);
    const { region } = rig.ram;
    rig.fe.addMemReg({ ...region, size: half });
    // Contiguous for the front-end, elsewhere for the guest.
    rig.fe.addMemReg({
      ...region,
      guestAddress: GPA_BASE + 0x4000_0000n,
      userAddress: USER_BASE + half,
      size: half,
      mmapOffset: half,
    });
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    const offset = rig.ram.write("second half");
    const address = GPA_BASE + 0x4000_0000n + BigInt(offset) - half;
    rig.drivers[1].add([{ address, length: 11 }], []);
    rig.drivers[1].publish();
    rig.device.processAll();
    assert.deepEqual(rig.received(1), ["second half"]);
  });
});

test("regions that overlap or end beyond their file are refused and close their descriptor", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    const small = createMemfd("small", 4096);
    rig.fe.addMemReg(rig.ram.region);
    assert.throws(() => rig.fe.addMemReg(rig.ram.region), { code: "refused" });
    assert.throws(() => rig.fe.addMemReg({ ...elsewhere(rig, 0), size: 8192n, fd: small }), {
      code: "refused",
    });
    assert.match(rig.log("message-refused")[1].message, /ADD_MEM_REG.*the file is 4096 bytes long/);
    closeSync(small);
  });
});

test("an invalidated page is not touched any more once the message is answered", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.send(1, "mapped", "iova");
    const space = rig.device.running.get(1);
    assert.ok(space);
    rig.mapsOnMiss = false;
    const ring = IOVA_BASE + BigInt(rig.ram.offsetOf(1));
    assert.equal(rig.fe.iotlbInvalidate(ring, 0x1000n), 0n);
    assert.equal(space.queue.prepare(), Outcome.MISS, "ring pages can be invalidated while the ring runs");
    rig.mapsOnMiss = true;
    rig.map(ring);
    rig.settle();
    rig.send(1, "mapped again", "iova");
    assert.deepEqual(rig.received(1), ["mapped", "mapped again"]);
  });
});

test("a page that was mapped and invalidated is asked for again at once", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    const ring = IOVA_BASE + BigInt(rig.ram.offsetOf(1));
    for (let round = 0; round < 3; round++) {
      rig.fe.iotlbInvalidate(ring, 0x1000n);
      rig.misses.length = 0;
      rig.device.processAll();
      rig.turn();
      assert.equal(rig.fe.serve(), 1);
      assert.equal(rig.misses[0].iova, ring);
    }
  });
});

test("ring pages stay mapped however many other pages are", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.misses.length = 0;
    for (let page = 0n; page < 2200n; page++) {
      assert.equal(rig.fe.iotlbUpdate(page * 0x1000n, 0x1000n, USER_BASE + (page % 256n) * 0x1000n), 0n);
    }
    for (const { queue } of rig.device.running.values()) assert.equal(queue.prepare(), Outcome.OK);
    assert.deepEqual(rig.misses, []);
  });
});

test("an INVALIDATE of everything, up to 2^64, is obeyed", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.mapsOnMiss = false;
    assert.equal(rig.fe.iotlbInvalidate(0n, 0xfee00000n), 0n);
    assert.equal(rig.fe.iotlbInvalidate(0xfef00000n, 0xffffffff01100000n), 0n);
    assert.equal(rig.device.running.get(1)?.queue.prepare(), Outcome.MISS);
  });
});

test("several pages that are missing are asked for in one go, each once", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.mapsOnMiss = false;
    rig.misses.length = 0;
    const start = IOVA_BASE + BigInt(rig.ram.write("x"));
    rig.drivers[1].add([{ address: start, length: 3 * 4096 }], []);
    rig.drivers[1].publish();
    for (let tries = 0; tries < 3; tries++) rig.device.processAll();
    rig.settle();
    assert.deepEqual(
      rig.misses.map(({ iova, perm }) => [iova, perm]),
      [0n, 4096n, 8192n].map((at) => [start + at, IOTLB_PERM.read]),
    );
  });
});

test("a question that nobody answers is asked again, not at once and not for ever at the same pace", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.mapsOnMiss = false;
    rig.start(WITH_BIT_33, "iova");
    const first = rig.misses.length;
    assert.ok(first > 0);
    rig.fe.waitFor(() => rig.misses.length > first);
    rig.mapsOnMiss = true;
    rig.fe.waitFor(() => rig.device.running.get(1)?.queue.prepare() === Outcome.OK);
  });
});

test("UPDATE with an address outside of memory or an empty range is refused and decides nothing wrong", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    assert.equal(rig.fe.iotlbUpdate(0x1000n, 0x1000n, 0x1000n), 1n);
    assert.equal(rig.fe.iotlbUpdate(0x1000n, 0n, USER_BASE), 1n);
    assert.equal(rig.fe.iotlbUpdate(0x1000n, 0x1000n, USER_BASE, 0), 1n);
    assert.equal(rig.fe.iotlb({ type: 4, iova: 0n, size: 0n, userAddress: 0n, perm: 1 }), 1n);
    rig.send(1, "unharmed", "iova");
    assert.deepEqual(rig.received(1), ["unharmed"]);
  });
});

test("unplugged memory takes its mappings along", () => {
  withRig({}, (rig) => {
    rig.connect();
    const more = elsewhere(rig, 0);
    rig.fe.addMemReg(more);
    rig.start(WITH_BIT_33, "iova");
    assert.equal(rig.fe.iotlbUpdate(0x5000n, 0x1000n, more.userAddress), 0n);
    rig.fe.needReply = true;
    rig.fe.remMemReg(more);
    rig.mapsOnMiss = false;
    rig.misses.length = 0;
    rig.drivers[1].add([{ address: 0x5000n, length: 1 }], []);
    rig.drivers[1].publish();
    rig.device.processAll();
    rig.settle();
    assert.deepEqual(
      rig.misses.map(({ iova }) => iova),
      [0x5000n],
    );
  });
});

test("a lost back-end channel is logged, and a new one is used", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.fe.closeBackendChannel();
    rig.settle();
    assert.equal(rig.log("channel-closed").length, 1);
    rig.send(1, "waits", "iova");
    assert.deepEqual(rig.received(1), []);
    assert.equal(rig.log("iotlb-refused").length, 1);
    rig.fe.openBackendChannel();
    rig.settle();
    assert.deepEqual(rig.received(1), ["waits"]);
  });
});

test("no more than the bounded number of questions is pending, and the chain still gets through", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.drivers[1].add([{ address: IOVA_BASE + 0x100000n, length: 0x80000 }], []);
    rig.drivers[1].publish();
    rig.device.processAll();
    rig.settle();
    assert.equal(rig.received(1).length, 1);
    assert.equal(rig.received(1)[0].length, 0x80000);
  });
});
