import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Access } from "../memory/address.js";
import { builtinDevice } from "../profiles/builtin.js";
import { openDescriptors } from "../vhost/session-rig.js";
import { F, mask, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { type BackendRig, withBackend } from "./backend-rig.js";
import { IOVA_BASE, PLAIN_WORD, profileOf, USER_BASE, WORD_WITH_33 } from "./peer-rig.js";

const TALKED = { guest: "RESPONSE, RW 7", host: "hello" };
const BIT_30 = mask(F.PROTOCOL_FEATURES);
const MQ_AND_CONFIG = maskOf(PROTOCOL_F.MQ, PROTOCOL_F.CONFIG);

const VHOST_DEVICE_VSOCK = builtinDevice("vhost-device-vsock");
const CROSVM_BACKEND = builtinDevice("crosvm-backend");
const DPDK_LIKE = builtinDevice("dpdk-like");
const OWN_BIT = builtinDevice("fix-own-bit");
const FIRST_MESSAGE = builtinDevice("fix-first-message");
const MSG_V2 = builtinDevice("fix-msg-v2");
const MASKED = builtinDevice("fix-mask-in-vmm");

/** The front-end hears nothing any more: its next message is not even taken. */
function isGone(rig: BackendRig): boolean {
  rig.settle();
  return !rig.device.isOpen;
}

describe("a modelled vhost-user back-end", () => {
  it("carries a connection with rings at user addresses", () => {
    withBackend({}, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("offers bit 30 with its protocol features, and answers what a front-end asks first", () => {
    withBackend({ profile: CROSVM_BACKEND }, (rig) => {
      assert.equal(rig.fe.getFeatures(), 0x37d000002n);
      rig.connect();
      assert.equal(rig.fe.protocolFeatures, MQ_AND_CONFIG);
      assert.equal(rig.fe.getQueueNum(), 3);
      assert.deepEqual([...(rig.fe.getConfig(0, 8) ?? [])], [3, 0, 0, 0, 0, 0, 0, 0]);
    });
  });

  it("runs a ring only while it is enabled, and tells where it stopped", () => {
    withBackend({}, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30, false);
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.equal(rig.guest.story, "");
      for (const index of [0, 1]) rig.fe.setVringEnable(index, true);
      rig.settle();
      assert.equal(rig.guest.story, "RESPONSE");
      assert.equal(rig.fe.getVringBase(1), 1);
      rig.guest.send({ op: 5 }, "hello");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "");
    });
  });

  it("takes memory region by region where it offers slots", () => {
    const slots = maskOf(PROTOCOL_F.CONFIGURE_MEM_SLOTS, PROTOCOL_F.REPLY_ACK);
    withBackend({ profile: profileOf({ protocolFeatures: slots }) }, (rig) => {
      rig.connect();
      rig.guest.boot();
      rig.fe.setFeatures(PLAIN_WORD | BIT_30);
      rig.fe.addMemReg(rig.guest.ram.region);
      assert.equal(rig.fe.getMaxMemSlots(), 509);
      const { fd: _, ...region } = rig.guest.ram.region;
      rig.fe.remMemReg(region);
      rig.fe.addMemReg(rig.guest.ram.region);
      for (const index of [0, 1]) {
        const addresses = rig.guest.addresses(index);
        rig.fe.setUpRing({ index, size: 8, addresses, kickFd: rig.guest.kicks[index] });
        rig.fe.setVringEnable(index, true);
      }
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("lets a ring wait that lies outside of the memory table", () => {
    withBackend({ addressing: "iova" }, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30);
      assert.deepEqual(rig.talk(), { guest: "", host: "" });
      assert.ok(rig.device.isOpen);
    });
  });

  it("leaves no descriptor open", () => {
    const before = openDescriptors();
    withBackend({}, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30);
      rig.talk();
    });
    assert.equal(openDescriptors(), before);
  });
});

describe("vhost-device-vsock", () => {
  it("carries a connection and ends with the first bit that it did not offer", () => {
    withBackend({ profile: VHOST_DEVICE_VSOCK }, (rig) => {
      rig.connect();
      rig.start(maskOf(F.VERSION_1, F.EVENT_IDX) | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withBackend({ profile: VHOST_DEVICE_VSOCK }, (rig) => {
      rig.connect();
      rig.fe.setFeatures(maskOf(F.VERSION_1, F.ACCESS_PLATFORM) | BIT_30);
      assert.ok(isGone(rig));
      assert.match(rig.device.left ?? "", /ACCESS_PLATFORM.*not offered/);
    });
  });

  it("ends with an IOTLB message, and with a ring address that is no user address", () => {
    withBackend({ profile: VHOST_DEVICE_VSOCK }, (rig) => {
      rig.connect();
      assert.throws(() => rig.mapAll());
      assert.match(rig.device.left ?? "", /IOTLB_MSG/);
    });
    withBackend({ profile: VHOST_DEVICE_VSOCK }, (rig) => {
      rig.connect();
      rig.fe.setFeatures(mask(F.VERSION_1) | BIT_30);
      rig.fe.setMemTable([rig.guest.ram.region]);
      rig.fe.setVringNum(0, 8);
      rig.fe.setVringAddr(0, { desc: IOVA_BASE, avail: IOVA_BASE, used: IOVA_BASE });
      assert.ok(isGone(rig));
      assert.match(rig.device.left ?? "", /SET_VRING_ADDR/);
    });
  });
});

describe("crosvm's vsock back-end", () => {
  it("works without bit 33, and ends with EFAULT from the kernel where it is passed on", () => {
    withBackend({ profile: CROSVM_BACKEND }, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withBackend({ profile: CROSVM_BACKEND }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      assert.ok(isGone(rig));
      assert.match(rig.device.exited ?? "", /VHOST_VSOCK_SET_RUNNING failed with EFAULT/);
    });
  });

  it("starts when both rings are enabled, not with the first", () => {
    withBackend({ profile: CROSVM_BACKEND }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30, false);
      rig.fe.setVringEnable(0, true);
      assert.ok(!isGone(rig));
      rig.fe.setVringEnable(1, true);
      assert.ok(isGone(rig));
    });
  });
});

describe("a back-end like DPDK", () => {
  it("starts without a mapping and asks for what it needs when it needs it", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
      assert.ok(rig.misses.includes("c0000 r"));
      assert.equal(new Set(rig.misses).size, rig.misses.length);
    });
  });

  it("asks once, however often the guest kicks, and goes on when the mapping comes late", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.answers = false;
      rig.start(WORD_WITH_33 | BIT_30);
      for (let kicks = 0; kicks < 3; kicks++) {
        rig.guest.send({ op: 3 });
        rig.settle();
      }
      assert.deepEqual(rig.misses, ["20000 r"]);
      rig.answers = true;
      assert.equal(rig.mapAll(), 0n);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("touches nothing after an INVALIDATE, and asks again", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      rig.talk();
      rig.answers = false;
      assert.equal(rig.fe.iotlbInvalidate(0n, 0xffff_ffff_ffff_f000n), 0n);
      rig.guest.send({ op: 5 }, "more");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "");
      assert.equal(rig.misses.at(-1), "20000 r");
    });
  });

  it("forgets its mappings with a new memory table", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      rig.mapAll();
      rig.talk();
      const before = rig.misses.length;
      rig.fe.setMemTable([rig.guest.ram.region]);
      rig.guest.send({ op: 5 }, "more");
      rig.settle();
      assert.equal(rig.endpoints.accepted[0].readAll().toString(), "more");
      assert.ok(rig.misses.length > before);
    });
  });

  it("forgets mappings and addresses when it is asked where a ring stands", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      rig.mapAll();
      rig.talk();
      assert.equal(rig.fe.getVringBase(0), 2);
      assert.equal(rig.fe.getVringBase(1), 2);
      rig.misses.length = 0;
      rig.guest.received.length = 0;
      rig.start(WORD_WITH_33 | BIT_30);
      rig.guest.send({ op: 1, srcPort: 4000 });
      rig.settle();
      assert.equal(rig.guest.story, "RESPONSE");
      assert.ok(rig.misses.includes("20000 r"));
    });
  });

  it("waits where a mapping permits less than it asked for, and does not ask for ever", () => {
    withBackend({ profile: DPDK_LIKE, addressing: "iova" }, (rig) => {
      rig.connect();
      rig.answers = false;
      rig.start(WORD_WITH_33 | BIT_30);
      const page = IOVA_BASE + 0x20000n;
      assert.equal(rig.fe.iotlbUpdate(page, 0x1000n, USER_BASE + 0x20000n, Access.WRITE), 0n);
      rig.settle();
      assert.deepEqual(rig.misses, ["20000 r"]);
    });
  });

  it("refuses a mapping to where no memory is, and an unoffered bit by closing where nobody wants an answer", () => {
    withBackend({ profile: DPDK_LIKE }, (rig) => {
      rig.connect();
      rig.fe.setFeatures(WORD_WITH_33 | BIT_30);
      assert.equal(rig.fe.iotlbUpdate(0n, 0x1000n, 0x1000n), 1n);
      rig.fe.needReply = true;
      assert.throws(() => rig.fe.setFeatures(mask(F.RING_PACKED)), /SET_FEATURES/);
      assert.ok(rig.device.isOpen);
      rig.fe.needReply = false;
      rig.fe.setFeatures(mask(F.RING_PACKED));
      assert.ok(isGone(rig));
      assert.match(rig.device.left ?? "", /RING_PACKED/);
      assert.equal(rig.device.exited, undefined);
    });
  });
});

describe("a back-end that takes what was not offered", () => {
  it("goes on with it", () => {
    withBackend({ profile: profileOf({ unofferedFeatures: "takes" }) }, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30 | mask(F.RING_RESET));
      assert.deepEqual(rig.talk(), TALKED);
    });
  });
});

describe("the proposals of 2022 as vhost-user back-ends", () => {
  const TRANSLATED = { addressing: "iova" } as const;

  it("gated on the messages, bit 33 counts where a channel and acknowledgements were agreed on", () => {
    withBackend({ profile: MSG_V2, ...TRANSLATED }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withBackend({ profile: MSG_V2 }, (rig) => {
      rig.fe.getFeatures();
      rig.fe.setProtocolFeatures(MQ_AND_CONFIG);
      rig.start(WORD_WITH_33 | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("with a bit of its own, only that one turns translation on", () => {
    withBackend({ profile: OWN_BIT }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
    withBackend({ profile: OWN_BIT, ...TRANSLATED }, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | mask(31) | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
    });
  });

  it("with the first message, rings that wait for memory at an I/O virtual address start", () => {
    withBackend({ profile: FIRST_MESSAGE, ...TRANSLATED }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      rig.guest.send({ op: 1 });
      rig.settle();
      assert.equal(rig.guest.story, "");
      assert.equal(rig.mapAll(), 0n);
      rig.settle();
      assert.equal(rig.guest.story, "RESPONSE");
    });
  });

  it("masked in front of it, bit 33 leaves addresses as they are", () => {
    withBackend({ profile: MASKED }, (rig) => {
      rig.connect();
      rig.start(WORD_WITH_33 | BIT_30);
      assert.deepEqual(rig.talk(), TALKED);
      assert.equal(rig.mapAll(), 1n);
    });
  });

  it("is reset by status 0, and takes a new driver", () => {
    const status = maskOf(PROTOCOL_F.STATUS, PROTOCOL_F.RESET_DEVICE);
    withBackend({ profile: profileOf({ protocolFeatures: status }) }, (rig) => {
      rig.connect();
      rig.start(PLAIN_WORD | BIT_30);
      rig.fe.setStatus(8);
      assert.equal(rig.fe.getStatus(), 8);
      rig.talk();
      rig.fe.setStatus(0);
      rig.fe.resetDevice();
      assert.equal(rig.fe.getStatus(), 0);
      rig.guest.received.length = 0;
      rig.start(PLAIN_WORD | BIT_30);
      rig.guest.send({ op: 1, srcPort: 4000 });
      rig.settle();
      assert.equal(rig.guest.story, "RESPONSE");
    });
  });
});
