import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import { createMemfd } from "../linux/mapping.js";
import { Access } from "../memory/address.js";
import type { WatchedAccess } from "../memory/watched-space.js";
import { builtinDevice } from "../profiles/builtin.js";
import { openDescriptors } from "../vhost/session-rig.js";
import { IOTLB_TYPE } from "../vhost/wire/index.js";
import { F, mask } from "../virtio/index.js";
import type { CidRegistry } from "./kernel-model.js";
import {
  GPA_BASE,
  IOVA_BASE,
  type KernelRig,
  MEMORY_BYTES,
  PAGE,
  PLAIN_WORD,
  profileOf,
  USER_BASE,
  WORD_WITH_33,
  withKernel,
} from "./peer-rig.js";

const TALKED = { guest: "RESPONSE, RW 7", host: "hello" };

function areOk(results: readonly string[]): void {
  assert.deepEqual([...new Set(results)], ["ok"]);
}

/** Where the areas of a ring are, relative to the memory. */
function areas({ guest }: KernelRig, index: number): { desc: bigint; avail: bigint; used: bigint } {
  const { desc, avail, used } = guest.addresses(index);
  const base = guest.addressing === "iova" ? IOVA_BASE : USER_BASE;
  return { desc: desc - base, avail: avail - base, used: used - base };
}

function mapUsedRings(rig: KernelRig): void {
  for (const index of [0, 1]) assert.equal(rig.map(IOVA_BASE + areas(rig, index).used), "ok");
}

/** Answers every question, as a VMM with the whole of the memory mapped does. */
function answerAll(rig: KernelRig): string[] {
  const asked: string[] = [];
  for (let round = 0; round < 64; round++) {
    rig.settle();
    const misses = rig.misses();
    if (misses.length === 0) break;
    asked.push(...misses);
    for (const miss of misses) {
      const iova = (BigInt(`0x${miss.split(" ")[0]}`) & ~0xfffn) + IOVA_BASE;
      assert.equal(rig.map(iova), "ok");
    }
  }
  return asked;
}

describe("a kernel device without translation", () => {
  it("carries a connection with buffers at guest-physical and rings at user addresses", () => {
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
      assert.deepEqual(rig.misses(), []);
    });
  });

  it("leaves no descriptor open once it is closed", () => {
    const before = openDescriptors();
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
      rig.talk();
    });
    assert.equal(openDescriptors(), before);
  });

  it("wants an owner, and one only, before rings and memory", () => {
    withKernel({}, (rig) => {
      assert.equal(rig.setFeatures(PLAIN_WORD), "ok");
      assert.equal(rig.setMemory(), "EPERM");
      assert.equal(rig.setRunning(true), "EPERM");
      assert.equal(rig.call({ name: "VHOST_SET_VRING_NUM", index: 0, num: 8 }), "EPERM");
      assert.equal(rig.call({ name: "VHOST_SET_OWNER" }), "ok");
      assert.equal(rig.call({ name: "VHOST_SET_OWNER" }), "EBUSY");
    });
  });

  it("refuses a feature that it does not offer and changes nothing", () => {
    withKernel({}, (rig) => {
      assert.equal(rig.setFeatures(PLAIN_WORD | mask(F.RING_PACKED)), "EOPNOTSUPP");
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
    });
  });

  it("faults at the start without a memory table, and with a used ring that is in none", () => {
    withKernel({}, (rig) => {
      rig.call({ name: "VHOST_SET_OWNER" });
      rig.setFeatures(PLAIN_WORD);
      areOk(rig.setRings());
      assert.equal(rig.setRunning(true), "EFAULT");
      areOk([rig.setMemory(), rig.setRunning(true), rig.setRunning(false)]);
      const { desc, avail } = rig.guest.addresses(1);
      assert.equal(rig.setAddresses(1, { desc, avail, used: 0x4000_0000n }), "ok");
      assert.equal(rig.setRunning(true), "EFAULT");
    });
  });

  it("takes ring addresses unseen, but not beyond the end of user space", () => {
    withKernel({}, (rig) => {
      areOk(rig.setUp(PLAIN_WORD));
      const { avail, used } = rig.guest.addresses(0);
      assert.equal(rig.setAddresses(0, { desc: 0xffff_8000_0000_0000n, avail, used }), "ok");
      assert.equal(rig.setRunning(true), "EFAULT");
      assert.equal(rig.setAddresses(0, { desc: 0x1000n, avail, used }), "ok");
      assert.equal(rig.setRunning(true), "ok");
      assert.equal(rig.setAddresses(0, { desc: 0xffff_8000_0000_0000n, avail, used }), "EINVAL");
    });
  });

  it("refuses misaligned rings, wrong sizes and indexes that it does not have", () => {
    withKernel({}, (rig) => {
      areOk(rig.setUp(PLAIN_WORD));
      const { desc, avail, used } = rig.guest.addresses(0);
      assert.equal(rig.setAddresses(0, { desc, avail: avail + 1n, used }), "EINVAL");
      assert.equal(rig.setAddresses(0, { desc, avail, used: used + 2n }), "EINVAL");
      for (const num of [0, 3, 65536])
        assert.equal(rig.call({ name: "VHOST_SET_VRING_NUM", index: 0, num }), "EINVAL");
      assert.equal(rig.call({ name: "VHOST_SET_VRING_BASE", index: 0, num: 65536 }), "EINVAL");
      assert.equal(rig.call({ name: "VHOST_SET_VRING_NUM", index: 2, num: 8 }), "ENOBUFS");
    });
  });

  it("does not resize or move a ring that runs", () => {
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
      assert.equal(rig.call({ name: "VHOST_SET_VRING_NUM", index: 0, num: 16 }), "EBUSY");
      assert.equal(rig.call({ name: "VHOST_SET_VRING_BASE", index: 0, num: 4 }), "EBUSY");
    });
  });

  it("tells where a ring stands without stopping it, and goes on there after a stop", () => {
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
      rig.talk();
      assert.equal(rig.ask({ name: "VHOST_GET_VRING_BASE", index: 1 }), 2n);
      areOk([rig.setRunning(false)]);
      rig.guest.send({ op: 5 }, " again");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "");
      areOk([rig.setRunning(true)]);
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), " again");
      assert.equal(rig.ask({ name: "VHOST_GET_VRING_BASE", index: 1 }), 3n);
    });
  });

  it("takes an eventfd as doorbell, and nothing else", () => {
    withKernel({}, (rig) => {
      areOk(rig.setUp(PLAIN_WORD));
      const file = createMemfd("no eventfd", 8);
      assert.equal(rig.call({ name: "VHOST_SET_VRING_KICK", index: 0, fd: file }), "EINVAL");
      closeSync(file);
      assert.equal(rig.call({ name: "VHOST_SET_VRING_KICK", index: 0, fd: file }), "EBADF");
      assert.equal(rig.call({ name: "VHOST_SET_VRING_CALL", index: 0, fd: -1 }), "ok");
    });
  });

  it("refuses reserved context ids, and one that another device has until that is closed", () => {
    const cids: CidRegistry = new Map();
    withKernel({ cids }, (rig) => {
      const setCid = (cid: bigint, at = rig): string => at.call({ name: "VHOST_VSOCK_SET_GUEST_CID", cid });
      for (const cid of [0n, 1n, 2n, 0xffff_ffffn, 0x1_0000_0003n]) assert.equal(setCid(cid), "EINVAL");
      withKernel({ cids }, (other) => {
        assert.equal(setCid(3n, other), "ok");
        assert.equal(setCid(3n), "EADDRINUSE");
        assert.equal(setCid(4n, other), "ok");
        assert.equal(setCid(3n), "ok");
        assert.equal(setCid(4n), "EADDRINUSE");
      });
      assert.equal(setCid(4n), "ok");
    });
  });

  it("keeps the old memory table where a new one makes no sense", () => {
    withKernel({}, (rig) => {
      areOk(rig.setUp(PLAIN_WORD));
      const { fd } = rig.guest.ram;
      const region = { guestAddress: GPA_BASE, userAddress: USER_BASE, size: 0n, fd, fileOffset: 0n };
      assert.equal(rig.call({ name: "VHOST_SET_MEM_TABLE", regions: [region] }), "EFAULT");
      const many = Array.from({ length: 65 }, () => region);
      assert.equal(rig.call({ name: "VHOST_SET_MEM_TABLE", regions: many }), "E2BIG");
      areOk([rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("stops at a buffer outside of the memory table, and goes on once it was started anew", () => {
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setRunning(true)]);
      rig.guest.send({ op: 1 }, "", 0x10n);
      rig.settle();
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.equal(rig.guest.story, "");
      areOk([rig.setRunning(false)]);
      rig.guest.boot();
      rig.call({ name: "VHOST_SET_VRING_BASE", index: 0, num: 0 });
      rig.call({ name: "VHOST_SET_VRING_BASE", index: 1, num: 0 });
      areOk([rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });
});

describe("Linux 5.10, which has no IOTLB", () => {
  it("refuses bit 33, does not know backend features, and cannot be written to", () => {
    withKernel({ profile: builtinDevice("linux-5.10") }, (rig) => {
      assert.equal(rig.ask({ name: "VHOST_GET_FEATURES" }), 0x13d000000n);
      assert.equal(rig.ask({ name: "VHOST_GET_BACKEND_FEATURES" }), "EPERM");
      areOk(rig.setUp(PLAIN_WORD));
      assert.equal(rig.ask({ name: "VHOST_GET_BACKEND_FEATURES" }), "ENOTTY");
      assert.equal(rig.setFeatures(WORD_WITH_33), "EOPNOTSUPP");
      assert.equal(rig.write({}), "EINVAL");
      areOk([rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });
});

describe("bit 33 at a kernel device", () => {
  it("without mappings makes the start fault, as in August 2022, and leaves a question behind", () => {
    withKernel({ addressing: "untranslated" }, (rig) => {
      assert.equal(rig.ask({ name: "VHOST_GET_FEATURES" }), 0x33d000002n);
      areOk(rig.setUp(WORD_WITH_33));
      assert.equal(rig.setRunning(true), "EFAULT");
      const miss = rig.device.read();
      assert.equal(miss?.iova, rig.guest.addresses(0).used);
      assert.equal(miss?.perm, Access.READ);
      assert.equal(rig.device.read(), undefined);
      // Masked, it works.
      areOk([rig.setFeatures(PLAIN_WORD), ...[0, 1].map((index) => rig.setAddresses(index))]);
      areOk([rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("does not start with a used ring that may only be written, and asks nothing then", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      mapUsedRings(rig);
      rig.unmap(IOVA_BASE + areas(rig, 1).used);
      rig.map(IOVA_BASE + areas(rig, 1).used, 1n, Access.WRITE);
      assert.equal(rig.setRunning(true), "EFAULT");
      assert.deepEqual(rig.misses(), []);
    });
  });

  it("starts with the used rings mapped and asks for the rest, one address at a time", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      mapUsedRings(rig);
      areOk([rig.setRunning(true)]);
      rig.settle();
      const [rx, tx] = [0, 1].map((index) => areas(rig, index));
      assert.deepEqual(rig.misses().sort(), [`${rx.desc.toString(16)} r`, `${tx.desc.toString(16)} r`]);
      rig.map(IOVA_BASE + rx.desc);
      rig.settle();
      assert.deepEqual(rig.misses(), [`${rx.avail.toString(16)} r`]);
    });
  });

  it("carries a connection while every page is asked for and answered", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      mapUsedRings(rig);
      areOk([rig.setRunning(true)]);
      assert.equal(answerAll(rig).length, 4);
      rig.guest.send({ op: 1 });
      assert.deepEqual(answerAll(rig), ["c0000 r", "80000 w"]);
      rig.guest.send({ op: 5 }, "hello");
      assert.deepEqual(answerAll(rig), ["c1000 r"]);
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "hello");
      assert.equal(rig.guest.story, "RESPONSE");
    });
  });

  it("looks again at the rings whose question was read before the answer came, and at no others", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      rig.mapAllBut(0xc0000n);
      areOk([rig.setRunning(true)]);
      rig.guest.send({ op: 1 });
      rig.settle();
      // The answer to a question that nobody has read yet.
      rig.map(IOVA_BASE + 0xc0000n);
      rig.settle();
      assert.equal(rig.guest.story, "");
      assert.deepEqual(rig.misses(), ["c0000 r"]);
      rig.map(IOVA_BASE + 0xc0000n);
      rig.settle();
      assert.equal(rig.guest.story, "RESPONSE");
    });
  });

  it("asks anew for what stayed unanswered when the guest kicks again", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      rig.mapAllBut(0xc0000n);
      areOk([rig.setRunning(true)]);
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.deepEqual(rig.misses(), ["c0000 r"]);
      rig.guest.kick(1);
      rig.guest.kick(1);
      rig.settle();
      assert.deepEqual(rig.misses(), ["c0000 r"]);
    });
  });

  it("waits without a question where a mapping does not permit the access", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      rig.mapAllBut(0xc0000n);
      rig.map(IOVA_BASE + 0xc0000n, 1n, Access.WRITE);
      areOk([rig.setRunning(true)]);
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.deepEqual(rig.misses(), []);
      assert.equal(rig.guest.story, "");
    });
  });

  it("touches nothing any more once an INVALIDATE was obeyed", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      areOk([rig.mapAll(), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
      // One mapping covers all of it, and goes as a whole.
      assert.equal(rig.unmap(IOVA_BASE), "ok");
      rig.guest.send({ op: 5 }, "more");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "");
      assert.ok(rig.misses().includes(`${areas(rig, 1).desc.toString(16)} r`));
    });
  });

  it("goes on touching where it does not honour INVALIDATE", () => {
    withKernel({ addressing: "iova", profile: profileOf({ iotlb: { honoursInvalidate: false } }) }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      areOk([rig.mapAll(), rig.setRunning(true)]);
      rig.talk();
      assert.equal(rig.unmap(IOVA_BASE), "ok");
      rig.guest.send({ op: 5 }, "more");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "more");
    });
  });

  it("refuses IOTLB messages that make no sense, each with Linux's errno", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      assert.equal(rig.write({ iova: 0n, userAddress: USER_BASE }), "EFAULT");
      assert.equal(rig.write({ type: IOTLB_TYPE.INVALIDATE }), "EFAULT");
      areOk(rig.setUp(WORD_WITH_33));
      assert.equal(rig.write({ size: 0n }), "EINVAL");
      assert.equal(rig.write({ type: IOTLB_TYPE.INVALIDATE, size: 0n }), "ok");
      assert.equal(rig.write({ type: IOTLB_TYPE.MISS }), "EFAULT");
      assert.equal(rig.write({ type: IOTLB_TYPE.BATCH_BEGIN, size: 0n }), "EFAULT");
      assert.equal(rig.write({ userAddress: 0xffff_8000_0000_0000n }), "EFAULT");
      assert.equal(rig.write({ iova: 2n ** 64n - 1n, userAddress: USER_BASE }), "EFAULT");
      // It is a user address, and that nothing is there comes out later.
      assert.equal(rig.write({ userAddress: 0x1000n }), "ok");
      assert.equal(rig.write({ type: IOTLB_TYPE.INVALIDATE, iova: 2n ** 63n, size: 2n ** 63n }), "ok");
    });
  });

  it("forgets its mappings with every SET_FEATURES that has the bit", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      areOk([rig.mapAll(), rig.setFeatures(WORD_WITH_33)]);
      assert.equal(rig.setRunning(true), "EFAULT");
    });
  });

  it("reports what it touches to whoever watches, and heeds a denial", () => {
    const touched: WatchedAccess[] = [];
    const watcher = {
      accessed: (access: WatchedAccess): string | undefined => {
        touched.push(access);
        return access.leadsTo[0].gpa === Number(GPA_BASE) + 0xc0000 ? "private" : undefined;
      },
      withheld: (): void => {},
    };
    withKernel({ addressing: "iova", watcher }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      areOk([rig.mapAll(), rig.setRunning(true)]);
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.equal(rig.guest.story, "");
      const buffer = touched.find(({ use }) => use === "buffer");
      assert.equal(buffer?.address, IOVA_BASE + 0xc0000n);
      assert.deepEqual(buffer?.leadsTo, [{ gpa: Number(GPA_BASE) + 0xc0000, bytes: 44 }]);
      assert.ok(touched.some(({ use, space }) => use === "ring" && space === "iova"));
    });
  });
});

describe("toggling bit 33 after SET_VRING_ADDR", () => {
  it("clears the addresses on Linux 6.12, in either direction", () => {
    withKernel({}, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setFeatures(WORD_WITH_33), rig.setFeatures(PLAIN_WORD)]);
      assert.equal(rig.setRunning(true), "EFAULT");
      areOk([...[0, 1].map((index) => rig.setAddresses(index)), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("keeps the addresses on Linux 5.15, and the IOTLB as well", () => {
    withKernel({ profile: builtinDevice("linux-5.15"), addressing: "iova" }, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD), rig.setFeatures(WORD_WITH_33), rig.mapAll()]);
      areOk([rig.setFeatures(PLAIN_WORD), rig.setRunning(true)]);
      assert.ok(rig.device.translates);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });
});

describe("the proposals of 2022 as kernel devices", () => {
  it("gated on IOTLB_MSG_V2, bit 33 alone means nothing, in either order of the two", () => {
    const profile = builtinDevice("fix-msg-v2");
    withKernel({ profile }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withKernel({ profile, addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      assert.equal(rig.call({ name: "VHOST_SET_BACKEND_FEATURES", features: 4n }), "EOPNOTSUPP");
      assert.equal(rig.call({ name: "VHOST_SET_BACKEND_FEATURES", features: 2n }), "ok");
      areOk([0, 1].map((index) => rig.setAddresses(index)));
      assert.equal(rig.setRunning(true), "EFAULT");
      areOk([rig.mapAll(), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("with a bit of its own, bit 33 means nothing and the other one does", () => {
    const profile = builtinDevice("fix-own-bit");
    withKernel({ profile }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withKernel({ profile, addressing: "iova" }, (rig) => {
      areOk([...rig.setUp(PLAIN_WORD | mask(31)), rig.mapAll(), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("until the first message everything is reachable, and after it only what is mapped", () => {
    const profile = builtinDevice("fix-first-message");
    withKernel({ profile }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
      // Rings that run go on, and their addresses are looked up from now on.
      assert.equal(rig.write({ iova: 0n, userAddress: USER_BASE }), "ok");
      rig.guest.send({ op: 5 }, "more");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "");
      assert.ok(rig.device.translates);
    });
    withKernel({ profile, addressing: "iova" }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.mapAll(), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
    // Without bit 33 there is nothing that a message could turn on.
    withKernel({ profile }, (rig) => {
      areOk(rig.setUp(PLAIN_WORD));
      assert.equal(rig.write({ iova: 0n, userAddress: USER_BASE }), "EFAULT");
    });
  });

  it("masked in front of it, bit 33 never reaches it", () => {
    withKernel({ profile: builtinDevice("fix-mask-in-vmm") }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.setRunning(true)]);
      assert.ok(!rig.device.translates);
      assert.deepEqual(rig.talk(), TALKED);
      assert.equal(rig.write({ userAddress: USER_BASE }), "EFAULT");
    });
  });

  it("a device that looks at its rings when it uses them starts without any mapping", () => {
    withKernel({ addressing: "iova", profile: profileOf({ iotlb: { ringsNeeded: "when-used" } }) }, (rig) => {
      areOk([...rig.setUp(WORD_WITH_33), rig.setRunning(true)]);
      answerAll(rig);
      rig.guest.send({ op: 1 });
      answerAll(rig);
      assert.equal(rig.guest.story, "RESPONSE");
    });
  });
});

describe("the whole of a memory", () => {
  it("is mapped by one message", () => {
    withKernel({ addressing: "iova" }, (rig) => {
      areOk(rig.setUp(WORD_WITH_33));
      areOk([rig.map(IOVA_BASE, BigInt(MEMORY_BYTES) / PAGE), rig.setRunning(true)]);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });
});
