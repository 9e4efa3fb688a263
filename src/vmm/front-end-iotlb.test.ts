import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import { IOTLB_TYPE } from "../vhost/wire/index.js";
import { BEHIND_VIOMMU, PROTECTED, RICH, refusalIn, UserRig, using, vmmLike } from "./vmm-rig.js";

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

  it("is the end of a start if a used ring cannot be mapped and the VMM looks at that, as QEMU 10.0 does", () => {
    const start = (rig: UserRig): void => {
      const offered = rig.frontEnd.initialize();
      const elsewhere = rig.guest.queues.map((queue) => ({
        ...queue,
        addresses: { ...queue.addresses, used: 0x1234_0000n },
      }));
      rig.frontEnd.start(offered, elsewhere);
    };
    using(behind("qemu-7.2"), (rig) => {
      start(rig);
      rig.backend.turn();
      assert.deepEqual(rig.backend.heard.slice(-2), ["SET_VRING_CALL q0", "SET_VRING_CALL q1"]);
    });
    using(behind("qemu-10.0"), (rig) => {
      const { by, message } = refusalIn(() => start(rig));
      assert.equal(by, "back-end");
      assert.equal(message, "the used ring of queue 0 cannot be mapped, as the guest has not mapped it");
      const enabled = rig.backend.messages.flatMap(({ record, payload }) =>
        record.name === "SET_VRING_ENABLE" && payload.kind === "vringState" ? [payload.num] : [],
      );
      assert.deepEqual(enabled, [1, 1, 0, 0]);
    });
  });

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
