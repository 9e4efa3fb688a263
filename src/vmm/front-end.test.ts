import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import { builtinProfiles } from "../profiles/builtin.js";
import { IOTLB_TYPE } from "../vhost/wire/index.js";
import { F, has, maskOf, PROTOCOL_F, without } from "../virtio/index.js";
import { StartRefused } from "./player.js";
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

function refusalIn(action: () => void): StartRefused {
  try {
    action();
  } catch (error) {
    assert.ok(error instanceof StartRefused);
    return error;
  }
  throw new assert.AssertionError({ message: "nobody refused" });
}

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

describe("an IOTLB that is served", () => {
  const behind = (name: string, unmapping: "strict" | "lazy" = "strict") =>
    new UserRig({ profile: vmmLike(name), machine: BEHIND_VIOMMU, kind: "viommu", unmapping });

  it("answers a MISS with the page, first on the main socket and then on the channel", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      const { used } = rig.guest.queues[0].addresses;
      rig.backend.miss(used, 2);
      assert.equal(rig.frontEnd.serve(), 1);
      rig.backend.turn();
      const update = rig.backend.iotlbMessages(IOTLB_TYPE.UPDATE).at(-1);
      assert.equal(update?.iova, used & ~0xfffn);
      assert.equal(update?.size, 0x1000n);
      assert.equal(update?.perm, 3);
      assert.deepEqual(rig.backend.answers, [0n]);
      const question = rig.events.findLast(({ kind }) => kind === "question");
      assert.deepEqual(question, {
        kind: "question",
        text: `MISS iova=0x${used.toString(16)} perm=w`,
        answer: "mapped",
      });
    }));

  it("answers a MISS that comes in the middle of the start", () =>
    using(behind("qemu-7.2"), (rig) => {
      const { desc } = rig.guest.queues[1].addresses;
      rig.backend.upon.set("IOTLB_MSG", () => {
        rig.backend.upon.delete("IOTLB_MSG");
        rig.backend.miss(desc, 1);
      });
      rig.run();
      rig.backend.turn();
      const updates = rig.backend.iotlbMessages(IOTLB_TYPE.UPDATE).map(({ iova }) => iova);
      assert.deepEqual(updates.filter((iova) => iova === (desc & ~0xfffn)).length, 2);
      assert.deepEqual(rig.backend.answers, [0n]);
    }));

  it("refuses a MISS for what the guest has not mapped, or not for that", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      const before = rig.backend.iotlbMessages(IOTLB_TYPE.UPDATE).length;
      rig.backend.miss(0x1234_0000n, 1);
      rig.frontEnd.serve();
      rig.backend.turn();
      assert.deepEqual(rig.backend.answers, [1n]);
      assert.equal(rig.backend.iotlbMessages(IOTLB_TYPE.UPDATE).length, before);
    }));

  it("serves questions from the event loop by itself", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      rig.backend.miss(rig.guest.queues[0].addresses.desc, 1);
      rig.loop.turn(0);
      rig.backend.turn();
      assert.deepEqual(rig.backend.answers, [0n]);
    }));

  it("answers no MISS after the stop", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      rig.frontEnd.stop();
      rig.backend.miss(rig.guest.queues[0].addresses.desc, 1);
      rig.frontEnd.serve();
      rig.backend.turn();
      assert.deepEqual(rig.backend.answers, [1n]);
    }));

  for (const [name, unmapping, told] of [
    ["qemu-7.2", "strict", 1],
    ["qemu-7.2", "lazy", 0],
    ["qemu-10.0", "lazy", 2],
  ] as const) {
    it(`tells the device ${told} times what a guest takes back: ${name}, ${unmapping}`, () =>
      using(behind(name, unmapping), (rig) => {
        rig.run();
        const { mapper } = rig.guest.platform;
        mapper.freeCoherent(mapper.allocateCoherent(4096));
        if ("flush" in mapper && typeof mapper.flush === "function") mapper.flush();
        rig.backend.turn();
        assert.equal(rig.backend.iotlbMessages(IOTLB_TYPE.INVALIDATE).length, told);
      }));
  }

  it("never tells the device where the profile says never", () => {
    const profile = vmmLike("qemu-7.2", { iotlb: { invalidates: "never" } });
    using(new UserRig({ profile, machine: BEHIND_VIOMMU, kind: "viommu" }), (rig) => {
      rig.run();
      const { mapper } = rig.guest.platform;
      mapper.freeCoherent(mapper.allocateCoherent(4096));
      rig.backend.turn();
      assert.equal(rig.backend.iotlbMessages(IOTLB_TYPE.INVALIDATE).length, 0);
    });
  });

  it("goes on without a channel that the back-end has closed", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      closeSync(rig.backend.channelFd);
      rig.backend.channelFd = -1;
      assert.equal(rig.frontEnd.serve(), 0);
      assert.equal(rig.frontEnd.failure, undefined);
    }));

  it("keeps the failure of a back-end that leaves, and tells it nothing more", () =>
    using(behind("qemu-7.2"), (rig) => {
      rig.run();
      rig.backend.leave();
      const { mapper } = rig.guest.platform;
      mapper.freeCoherent(mapper.allocateCoherent(4096));
      mapper.freeCoherent(mapper.allocateCoherent(4096));
      assert.match(rig.frontEnd.failure?.message ?? "", /the back-end/);
      const told = rig.events.filter((event) => event.kind === "message" && /INVALIDATE/.test(event.text));
      assert.equal(told.length, 1);
    }));
});

describe("a MISS that a VMM does not expect", () => {
  const unprepared = (unexpectedMiss: "ignored" | "refused" | "dies") =>
    new UserRig({
      profile: vmmLike("crosvm-vhost-user", { program: "V", iotlb: { unexpectedMiss } }),
      machine: PROTECTED,
      kind: "restricted",
    });

  it("gets no answer, where that is what the VMM does", () =>
    using(unprepared("ignored"), (rig) => {
      rig.run();
      rig.backend.miss(0x1000n, 1);
      assert.equal(rig.frontEnd.serve(), 1);
      rig.backend.turn();
      assert.deepEqual(rig.backend.answers, []);
      assert.equal(rig.frontEnd.failure, undefined);
    }));

  it("is refused, where that is what the VMM does", () =>
    using(unprepared("refused"), (rig) => {
      rig.run();
      rig.backend.miss(0x1000n, 1);
      rig.frontEnd.serve();
      rig.backend.turn();
      assert.deepEqual(rig.backend.answers, [1n]);
      assert.equal(rig.frontEnd.died, false);
    }));

  it("ends the VMM, and the back-end sees the session end, where that is what the VMM does", () =>
    using(unprepared("dies"), (rig) => {
      rig.run();
      rig.backend.miss(0x1000n, 1);
      rig.frontEnd.serve();
      rig.backend.turn();
      assert.equal(rig.frontEnd.died, true);
      assert.equal(rig.backend.isClosed, true);
      assert.match(rig.frontEnd.failure?.message ?? "", /^V ends at an IOTLB message: MISS iova=0x1000/);
      assert.deepEqual(rig.frontEnd.stop(), []);
      assert.equal(rig.events.at(-1)?.kind, "died");
    }));

  it("ends the VMM in the middle of the start", () => {
    // STATUS makes it wait for an answer, and so read the channel, once the rings run.
    const profile = vmmLike("crosvm-vhost-user", {
      program: "V",
      order: ["features", "memory", ["num", "addr", "enable"], "status"],
      protocolFeatures: RICH.protocolFeatures,
    });
    using(new UserRig({ profile, machine: PROTECTED, kind: "restricted" }), (rig) => {
      rig.backend.upon.set("SET_VRING_ENABLE", () => rig.backend.miss(0x1000n, 1));
      const refusal = refusalIn(() => rig.run());
      assert.equal(refusal.by, "front-end");
      assert.match(refusal.message, /^V ends at an IOTLB message/);
      assert.equal(rig.frontEnd.died, true);
    });
  });
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

describe("what an observer hears", () => {
  it("is the device's offer, the guest's, what is passed on, and each message with its answer", () =>
    using(new UserRig({ profile: vmmLike("qemu-7.2", { program: "V" }), machine: PROTECTED }), (rig) => {
      rig.run();
      const kinds = rig.events.map(({ kind }) => kind).filter((kind) => kind !== "message");
      assert.deepEqual(kinds, ["device-offer", "guest-offer", "passed-on"]);
      const passedOn = rig.events.find((event) => event.kind === "passed-on");
      assert.match(passedOn?.because ?? "", /^masked: no vIOMMU/);
      const messages = rig.events.flatMap((event) => (event.kind === "message" ? [event] : []));
      assert.equal(messages.length, rig.backend.heard.length);
      const queues = messages.find(({ text }) => text === "GET_QUEUE_NUM");
      assert.equal(queues?.result, "3");
      const owner = messages.find(({ text }) => text === "SET_OWNER");
      assert.deepEqual(owner, { kind: "message", text: "SET_OWNER" });
    }));
});
