import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { F, has, maskOf, PROTOCOL_F } from "../virtio/index.js";
import { BEHIND_VIOMMU, PLAIN, PROTECTED, RICH, refusalIn, UserRig, using, vmmLike } from "./vmm-rig.js";

describe("ring addresses", () => {
  const addressesIn = (rig: UserRig) => rig.backend.payload("SET_VRING_ADDR");

  it("are the VMM's own without translation", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN }), (rig) => {
      rig.run();
      const told = addressesIn(rig);
      const region = rig.backend.payload("ADD_MEM_REG");
      assert.ok(told?.kind === "vringAddr" && region?.kind === "memRegion");
      const { guestAddress, userAddress } = region.region;
      assert.equal(told.desc - userAddress, rig.guest.queues[1].addresses.desc - guestAddress);
    }));

  it("are the driver's behind a vIOMMU, even if the driver has skipped bit 33", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: BEHIND_VIOMMU, kind: "viommu" }), (rig) => {
      rig.run(maskOf(F.VERSION_1));
      const told = addressesIn(rig);
      assert.ok(told?.kind === "vringAddr");
      assert.equal(told.used, rig.guest.queues[1].addresses.used);
      assert.ok(!has(rig.frontEnd.negotiation.sentToBackend, F.ACCESS_PLATFORM));
    }));

  it("are the driver's where the VMM does not convert them", () => {
    const profile = vmmLike("qemu-7.2", { ringAddresses: "guest-physical" });
    using(new UserRig({ profile, machine: PLAIN }), (rig) => {
      rig.run();
      const told = addressesIn(rig);
      assert.ok(told?.kind === "vringAddr");
      assert.equal(told.desc, rig.guest.queues[1].addresses.desc);
    });
  });

  it("outside of the guest's memory stop the start", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN, kind: "direct" }), (rig) => {
      const acknowledged = rig.frontEnd.initialize();
      const nowhere = { desc: 1n << 40n, avail: 1n << 40n, used: 1n << 40n };
      const queues = rig.guest.queues.map((queue) => ({ ...queue, addresses: nowhere }));
      const refusal = refusalIn(() => rig.frontEnd.start(acknowledged, queues));
      assert.equal(refusal.by, "front-end");
      assert.match(refusal.message, /^ring 0 is at 0x10000000000, which is not guest memory/);
    }));
});

describe("a start that is refused", () => {
  it("by the VMM, before the guest boots, in its own words", () => {
    const poor = { ...RICH, protocolFeatures: maskOf(PROTOCOL_F.CONFIG) };
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN }, poor), (rig) => {
      const refusal = refusalIn(() => rig.frontEnd.initialize());
      assert.equal(refusal.by, "front-end");
      assert.match(refusal.message, /^IOMMU support requires reply-ack/);
      assert.deepEqual(rig.events.at(-1), { kind: "refused", text: refusal.message });
    });
  });

  it("by the back-end, with the message that it refused", () =>
    using(new UserRig({ profile: vmmLike("cloud-hypervisor"), machine: PLAIN }), (rig) => {
      rig.backend.refuses.add("SET_FEATURES");
      const refusal = refusalIn(() => rig.run());
      assert.equal(refusal.by, "back-end");
      assert.match(refusal.message, /refused SET_FEATURES/);
      const told = rig.events.findLast((event) => event.kind === "message");
      assert.ok(told?.kind === "message" && told.text.startsWith("SET_FEATURES NEED_REPLY"));
      assert.equal(told.result, "failed (1)");
    }));
});

describe("what an observer hears", () => {
  it("is the device's offer, the guest's, what is passed on, and each message with its answer", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2", { program: "V" }), machine: PROTECTED }), (rig) => {
      rig.run();
      const kinds = rig.events
        .map(({ kind }) => kind)
        .filter((kind) => kind !== "message" && kind !== "begins");
      assert.deepEqual(kinds, ["device-offer", "guest-offer", "passed-on"]);
      const passedOn = rig.events.find((event) => event.kind === "passed-on");
      assert.match(passedOn?.because ?? "", /^masked: no vIOMMU/);
      const messages = rig.events.flatMap((event) => (event.kind === "message" ? [event] : []));
      assert.equal(messages.length, rig.backend.heard.length);
      assert.equal(rig.events.filter(({ kind }) => kind === "begins").length, messages.length);
      const queues = messages.find(({ text }) => text === "GET_QUEUE_NUM");
      assert.equal(queues?.result, "3");
      const owner = messages.find(({ text }) => text === "SET_OWNER");
      assert.deepEqual(owner, { kind: "message", text: "SET_OWNER" });
    }));
});
