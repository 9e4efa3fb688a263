import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { builtinProfiles } from "../profiles/builtin.js";
import { F, maskOf, PROTOCOL_F, without } from "../virtio/index.js";
import { BEHIND_VIOMMU, PLAIN, PROTECTED, RICH, UserRig, using, vmmLike } from "./vmm-rig.js";

const QEMU_BEFORE_THE_GUEST = [
  "GET_FEATURES",
  "GET_PROTOCOL_FEATURES",
  "SET_PROTOCOL_FEATURES",
  "GET_QUEUE_NUM",
  "GET_MAX_MEM_SLOTS",
  "SET_BACKEND_REQ_FD NEED_REPLY",
  "SET_OWNER",
  "GET_FEATURES",
  ...[0, 1].flatMap((index) => [`SET_VRING_CALL q${index}`, `SET_VRING_ERR q${index}`]),
  "GET_CONFIG",
];
// One queue after the other; QEMU names the last one first in the first two.
const QEMU_START = [
  "SET_VRING_CALL q0",
  "SET_VRING_CALL q1",
  "SET_FEATURES",
  "GET_STATUS",
  "SET_STATUS",
  "ADD_MEM_REG NEED_REPLY",
  ...[0, 1].flatMap((index) => ["NUM", "BASE", "ADDR", "KICK"].map((step) => `SET_VRING_${step} q${index}`)),
  "SET_VRING_ENABLE q0",
  "SET_VRING_ENABLE q1",
];

describe("the order of calls", () => {
  it("is that of a recorded QEMU 7.2 session", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN }), (rig) => {
      rig.run();
      const calls = ["SET_VRING_CALL q0", "SET_VRING_CALL q1"];
      assert.deepEqual(rig.backend.heard, [...QEMU_BEFORE_THE_GUEST, ...QEMU_START, ...calls]);
      const before = rig.backend.heard.length;
      rig.frontEnd.stop();
      assert.deepEqual(rig.heardFrom(before), [
        "SET_VRING_ENABLE q0",
        "SET_VRING_ENABLE q1",
        "GET_VRING_BASE q0",
        "GET_VRING_BASE q1",
      ]);
    }));

  it("is that of a recorded QEMU 7.2 session behind a vIOMMU: the used rings are mapped once they are enabled", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: BEHIND_VIOMMU, kind: "viommu" }), (rig) => {
      rig.run();
      const updates = Array(2).fill("IOTLB_MSG NEED_REPLY");
      const calls = ["SET_VRING_CALL q0", "SET_VRING_CALL q1"];
      const expected = [...QEMU_BEFORE_THE_GUEST, ...QEMU_START, ...updates, ...calls];
      assert.deepEqual(rig.backend.heard, expected);
    }));

  it("is crosvm's, as its source has it: all three queues, each to its end, and no slots", () =>
    using(new UserRig({ profile: vmmLike("crosvm-vhost-user"), machine: PROTECTED }), (rig) => {
      rig.run();
      const steps = ["NUM", "ADDR", "BASE", "CALL", "KICK", "ENABLE"];
      assert.deepEqual(rig.heardFrom(rig.backend.heard.indexOf("SET_FEATURES")), [
        "SET_FEATURES",
        "SET_MEM_TABLE",
        ...[0, 1, 2].flatMap((index) => steps.map((step) => `SET_VRING_${step} q${index}`)),
      ]);
    }));

  it("has the channel last where the profile says so, and an answer to every message", () =>
    using(new UserRig({ profile: vmmLike("cloud-hypervisor"), machine: PLAIN }), (rig) => {
      rig.run();
      assert.equal(rig.backend.heard.at(-1), "SET_BACKEND_REQ_FD NEED_REPLY");
      const start = rig.heardFrom(rig.backend.heard.findIndex((name) => name.startsWith("SET_FEATURES")));
      assert.deepEqual(
        start.filter((name) => !name.includes("NEED_REPLY")),
        [],
      );
    }));

  it("has RESET_DEVICE before the guest and after the stop where the profile says so", () =>
    using(new UserRig({ profile: vmmLike("qemu-10.0"), machine: PLAIN }), (rig) => {
      rig.run();
      rig.frontEnd.stop();
      rig.backend.turn();
      assert.equal(rig.backend.heard.filter((name) => name === "RESET_DEVICE").length, 2);
      assert.equal(rig.backend.heard.at(-1), "RESET_DEVICE");
    }));

  it("tells a device FEATURES_OK and never a reset", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN }), (rig) => {
      rig.run();
      rig.frontEnd.stop();
      const told = rig.backend.messages.filter(({ record }) => record.name === "SET_STATUS");
      assert.deepEqual(
        told.map(({ payload }) => payload),
        [{ kind: "u64", value: 8n }],
      );
    }));

  it("leaves out what was not negotiated", () => {
    const poor = {
      features: without(RICH.features, F.ACCESS_PLATFORM),
      protocolFeatures: maskOf(PROTOCOL_F.CONFIG),
    };
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: PLAIN }, poor), (rig) => {
      rig.run();
      for (const name of ["GET_QUEUE_NUM", "SET_BACKEND_REQ_FD", "GET_STATUS", "ADD_MEM_REG"])
        assert.ok(!rig.backend.heard.some((heard) => heard.startsWith(name)), name);
      assert.ok(rig.backend.heard.includes("SET_MEM_TABLE"));
    });
  });
});

describe("each built-in VMM that speaks vhost-user", () => {
  const all = builtinProfiles().vmms.filter(({ transport }) => transport === "vhost-user");
  for (const profile of all) {
    it(`starts a back-end that offers everything, and stops it: ${profile.name}`, () =>
      using(new UserRig({ profile, machine: PLAIN }), (rig) => {
        rig.run();
        assert.equal(rig.frontEnd.negotiation.sentToBackend & ~RICH.features & ~profile.offer.own, 0n);
        assert.deepEqual(rig.frontEnd.stop(), Array(profile.queues).fill(7));
        assert.equal(rig.frontEnd.failure, undefined);
      }));
  }
});
