import assert from "node:assert/strict";
import { test } from "node:test";
import { drainEventfd, signalEventfd } from "../linux/eventfd.js";
import { F, has, maskOf } from "../virtio/index.js";
import { GPA_BASE, IOVA_BASE, USER_BASE, VERSION_1_AND_30, WITH_BIT_33, withRig } from "./session-rig.js";

test("a plain QEMU guest runs untranslated", () => {
  withRig({}, (rig) => {
    rig.connect();
    assert.ok(has(rig.fe.getFeatures(), F.ACCESS_PLATFORM));
    rig.start(VERSION_1_AND_30, "user-rings");
    assert.deepEqual(rig.modes(), ["off bit-33-absent"]);
    rig.send(1, "hello");
    rig.send(1, "world");
    assert.deepEqual(rig.received(1), ["hello", "world"]);
    assert.deepEqual(rig.stop(), [0, 2]);
    assert.equal(rig.device.running.size, 0);
    assert.deepEqual(rig.misses, []);
  });
});

test("a kick that came before the ring was enabled is not lost", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings", { enable: false });
    rig.send(1, "early");
    assert.deepEqual(rig.received(1), []);
    rig.fe.setVringEnable(1, true);
    rig.settle();
    assert.deepEqual(rig.received(1), ["early"]);
  });
});

test("a virtio-iommu guest runs translated: rings and buffers are asked for and mapped", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    assert.deepEqual(rig.modes(), ["on ring-outside"]);
    rig.send(1, "through the IOTLB", "iova");
    assert.deepEqual(rig.received(1), ["through the IOTLB"]);
    assert.ok(rig.misses.length > 0);
    for (const { iova } of rig.misses) assert.ok(iova >= IOVA_BASE);
  });
});

test("QEMU's own first UPDATE decides, before any question was asked", () => {
  withRig({ probationMs: 60_000 }, (rig) => {
    rig.connect();
    // Addresses that could be user addresses: only the message tells.
    rig.start(WITH_BIT_33, "user-rings");
    assert.deepEqual(rig.modes(), []);
    assert.equal(rig.device.running.size, 0);
    assert.equal(rig.fe.iotlbUpdate(USER_BASE, 0x1000n, USER_BASE), 0n);
    assert.deepEqual(rig.modes(), ["on iotlb-message"]);
    assert.equal(rig.device.running.size, 2);
  });
});

test("a guest that uses the DMA API without translation runs once the probation is over, and no MISS is sent", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "user-rings");
    rig.send(1, "held");
    assert.equal(rig.session.translation.reason, "probation");
    rig.fe.waitFor(() => rig.session.translation.state === "off");
    rig.settle();
    assert.deepEqual(rig.modes(), ["off silence"]);
    assert.deepEqual(rig.received(1), ["held"]);
    assert.deepEqual(rig.misses, []);
  });
});

test("without a back-end channel bit 33 and user addresses need no probation", () => {
  withRig({ probationMs: 60_000 }, (rig) => {
    rig.connect({ channel: false });
    rig.start(WITH_BIT_33, "user-rings");
    rig.send(1, "at once");
    assert.deepEqual(rig.modes(), ["off inside-without-channel"]);
    assert.deepEqual(rig.received(1), ["at once"]);
  });
});

test("without a back-end channel a guest behind a vIOMMU is refused, with the reason", () => {
  withRig({}, (rig) => {
    rig.connect({ channel: false });
    rig.start(WITH_BIT_33, "iova");
    assert.deepEqual(rig.modes(), ["refused no-channel-to-ask"]);
    assert.equal(rig.device.running.size, 0);
    assert.equal(drainEventfd(rig.errors[0]), 8, "the error eventfd is signalled");
    assert.equal(rig.map(IOVA_BASE), 1n);
    rig.fe.openBackendChannel();
    rig.settle();
    assert.equal(rig.modes().at(-1)?.split(" ")[0], "on");
    rig.send(1, "now", "iova");
    assert.deepEqual(rig.received(1), ["now"]);
  });
});

test("ring addresses outside of memory without bit 33 are refused, and the message that enabled them is answered so", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "iova", { enable: false });
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setVringEnable(0, true), { code: "refused" });
    assert.deepEqual(rig.modes(), ["refused outside-without-bit-33"]);
    assert.equal(rig.device.running.size, 0);
    assert.ok(rig.session.isOpen, "another driver may follow");
  });
});

test("stop and cont take the rings up where they were, without any kick", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "before");
    const [, base] = rig.stop();
    rig.drivers[1].add([{ address: GPA_BASE + BigInt(rig.ram.write("meanwhile")), length: 9 }], []);
    rig.drivers[1].publish();
    rig.settle();
    rig.start(VERSION_1_AND_30, "user-rings", { base, memory: false });
    assert.deepEqual(rig.received(1), ["before", "meanwhile"]);
  });
});

test("unbind and bind start at position 0 with new rings", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "one");
    rig.stop();
    rig.fe.resetDevice();
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.send(1, "two");
    assert.deepEqual(rig.received(1), ["one", "two"]);
    assert.deepEqual(rig.stop(), [0, 1]);
    assert.ok(rig.device.events.includes("reset"));
  });
});

test("a guest that reboots from behind a vIOMMU into firmware without one is decided anew", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.send(1, "translated", "iova");
    rig.stop();
    rig.start(VERSION_1_AND_30, "user-rings", { memory: false });
    rig.send(1, "plain");
    rig.stop();
    rig.start(WITH_BIT_33, "iova", { memory: false });
    rig.send(1, "translated again", "iova");
    assert.deepEqual(rig.received(1), ["translated", "plain", "translated again"]);
    assert.deepEqual(rig.modes(), ["on ring-outside", "off bit-33-absent", "on ring-outside"]);
  });
});

test("mappings of before do not outlive a new negotiation", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "iova");
    rig.send(1, "one", "iova");
    rig.stop();
    rig.mapsOnMiss = false;
    const asked = rig.misses.length;
    rig.start(WITH_BIT_33, "iova", { memory: false });
    rig.settle();
    assert.ok(rig.misses.length > asked, "the rings are asked for again");
    rig.send(1, "two", "iova");
    assert.deepEqual(rig.received(1), ["one"]);
  });
});

test("QEMU 11.1's generic device passes three queues and wants acknowledgements", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    rig.fe.resetDevice();
    rig.start(VERSION_1_AND_30, "user-rings", { indexes: [0, 1, 2] });
    assert.deepEqual([...rig.device.running.keys()], [0, 1, 2]);
    assert.deepEqual(rig.stop([0, 1, 2]), [0, 0, 0]);
  });
});

test("the option on reads every address as an IOVA, whatever bit 33 says", () => {
  withRig({ iotlb: "on" }, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    rig.send(1, "unreachable");
    assert.deepEqual(rig.received(1), []);
    assert.deepEqual(rig.modes(), ["on option-on"]);
    assert.ok(
      rig.misses.every(({ iova }) => iova >= USER_BASE),
      "user addresses were looked up as IOVAs",
    );
  });
});

test("the option off reads user addresses, and refuses IOTLB messages without ending the session", () => {
  withRig({ iotlb: "off" }, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "user-rings");
    assert.notEqual(rig.map(IOVA_BASE), 0n);
    assert.equal(rig.log("iotlb-refused").length, 1);
    rig.send(1, "fine");
    assert.deepEqual(rig.received(1), ["fine"]);
    assert.deepEqual(rig.modes(), ["off option-off"]);
  });
});

test("under GPA_ADDRESSES ring addresses are guest-physical", () => {
  withRig({}, (rig) => {
    rig.connect({ protocolFeatures: rig.fe.getProtocolFeatures() });
    rig.start(VERSION_1_AND_30, "guest-rings");
    rig.send(1, "guest addresses");
    assert.deepEqual(rig.received(1), ["guest addresses"]);
    assert.deepEqual(rig.modes(), ["off bit-33-absent"]);
    assert.equal(rig.log("ring-start")[0].fields?.ringAddresses, "gpa");
  });
});

test("a ring feature that was not offered ends the session cleanly with an explanation", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.fe.needReply = true;
    assert.throws(() => rig.fe.setFeatures(VERSION_1_AND_30 | maskOf(F.IN_ORDER)), { code: "refused" });
    rig.settle();
    assert.ok(rig.fe.backendLeft);
    assert.match(rig.device.endReason ?? "", /IN_ORDER \(35\) was acknowledged but not offered: refused/);
    assert.equal(rig.device.running.size, 0);
  });
});

test("bit 33 is accepted though it was not offered", () => {
  withRig({ accessPlatform: false }, (rig) => {
    rig.connect();
    assert.ok(!has(rig.fe.getFeatures(), F.ACCESS_PLATFORM));
    rig.start(WITH_BIT_33, "iova");
    rig.send(1, "unasked", "iova");
    assert.deepEqual(rig.received(1), ["unasked"]);
    assert.match(rig.log("negotiated")[0].message, /ACCESS_PLATFORM \(33\) was acknowledged but not offered/);
  });
});

test("an IOTLB message is answered even where REPLY_ACK was not negotiated", () => {
  withRig({}, (rig) => {
    rig.connect({ protocolFeatures: 1n << 9n, channel: false });
    rig.start(WITH_BIT_33, "iova");
    assert.equal(rig.map(IOVA_BASE), 1n);
  });
});

test("an IOTLB message in a session that was decided off stops the rings and closes the session", () => {
  withRig({ probationMs: 0 }, (rig) => {
    rig.connect();
    rig.start(WITH_BIT_33, "user-rings");
    rig.fe.waitFor(() => rig.device.running.size === 2);
    assert.equal(rig.map(IOVA_BASE), 1n);
    rig.settle();
    assert.ok(rig.fe.backendLeft);
    assert.deepEqual(rig.device.events.slice(-3), ["stop 0", "stop 1", "end"]);
    assert.match(rig.device.endReason ?? "", /IOTLB_MSG while translation is off/);
  });
});

test("a front-end that leaves ends the session once, with everything closed", () => {
  withRig({}, (rig) => {
    rig.connect();
    rig.start(VERSION_1_AND_30, "user-rings");
    signalEventfd(rig.kicks[0]);
    rig.fe.close();
    rig.settle();
    assert.equal(rig.device.endReason, "the front-end closed the connection");
    assert.equal(rig.session.isOpen, false);
  });
});
