import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { builtinProfiles } from "../profiles/builtin.js";
import { openDescriptors } from "../vhost/session-rig.js";
import { IOTLB_TYPE } from "../vhost/wire/index.js";
import { F, has, mask, maskOf } from "../virtio/index.js";
import { StartRefused } from "./player.js";
import { BEHIND_VIOMMU, KernelRig, PLAIN, PROTECTED, UserRig, using, vmmLike } from "./vmm-rig.js";

const BIT_33 = mask(F.ACCESS_PLATFORM);
const LINUX = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC);
const NEW_LINUX = LINUX | BIT_33;

const ringSteps = (...steps: string[]): string[] =>
  [0, 1].flatMap((index) => steps.map((step) => `SET_VRING_${step} q${index}`));

describe("the order of requests", () => {
  it("is crosvm's of 2022: the kernel is asked only once the guest's driver is ready", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2022-07"), machine: PROTECTED }, NEW_LINUX), (rig) => {
      rig.run();
      assert.deepEqual(rig.kernel.heard, [
        "SET_OWNER",
        "GET_FEATURES",
        "SET_FEATURES",
        "SET_MEM_TABLE",
        ...ringSteps("NUM", "ADDR", "BASE", "CALL", "KICK"),
        "SET_GUEST_CID",
        "SET_RUNNING",
      ]);
    }));

  it("is QEMU's behind a vIOMMU: the used rings are mapped before the device runs", () =>
    using(
      new KernelRig(
        { profile: vmmLike("qemu-7.2-kernel"), machine: BEHIND_VIOMMU, kind: "viommu" },
        NEW_LINUX,
      ),
      (rig) => {
        rig.run();
        assert.deepEqual(rig.kernel.heard, [
          "SET_OWNER",
          "GET_FEATURES",
          ...ringSteps("CALL", "ERR"),
          "SET_GUEST_CID",
          ...ringSteps("CALL"),
          "SET_FEATURES",
          "GET_BACKEND_FEATURES",
          "SET_BACKEND_FEATURES",
          "SET_MEM_TABLE",
          ...ringSteps("NUM", "BASE", "ADDR", "KICK"),
          "UPDATE",
          "UPDATE",
          ...ringSteps("CALL"),
          "SET_RUNNING",
        ]);
        assert.deepEqual(rig.player.stop(), [2, 2]);
        assert.deepEqual(rig.kernel.heard.slice(-3), [
          "SET_RUNNING",
          "GET_VRING_BASE q0",
          "GET_VRING_BASE q1",
        ]);
      },
    ));

  it("ends before the device runs where a used ring is not mapped and the VMM looks at that, as QEMU 10.0 does", () => {
    const started = (name: string): string | undefined => {
      const options = { profile: vmmLike(name), machine: BEHIND_VIOMMU, kind: "viommu" } as const;
      let last: string | undefined;
      using(new KernelRig(options, NEW_LINUX), (rig) => {
        const offered = rig.player.initialize();
        const queues = rig.guest.queues.map((queue) => ({
          ...queue,
          addresses: { ...queue.addresses, used: 0x1234_0000n },
        }));
        try {
          rig.player.start(offered, queues);
        } catch (error) {
          assert.ok(error instanceof StartRefused);
          assert.equal(
            error.message,
            "the used ring of queue 0 cannot be mapped, as the guest has not mapped it",
          );
        }
        last = rig.kernel.heard.at(-1);
      });
      return last;
    };
    assert.equal(started("qemu-7.2-kernel"), "SET_RUNNING");
    assert.equal(started("qemu-10.0-kernel"), "SET_VRING_KICK q1");
  });

  it("goes on with a kernel that has never heard of backend features", () =>
    using(new KernelRig({ profile: vmmLike("qemu-7.2-kernel"), machine: PLAIN }, LINUX), (rig) => {
      rig.kernel.fails.set("VHOST_GET_BACKEND_FEATURES", "EINVAL");
      rig.run();
      assert.ok(!rig.kernel.heard.includes("SET_BACKEND_FEATURES"));
      assert.equal(rig.kernel.heard.at(-1), "SET_RUNNING");
    }));
});

describe("the incident of 2022", () => {
  const told = (rig: KernelRig): bigint => {
    const request = rig.kernel.requests.find(({ name }) => name === "VHOST_SET_FEATURES");
    assert.ok(request?.name === "VHOST_SET_FEATURES");
    return request.features;
  };

  it("bit 33 goes from a protected guest to a kernel that takes it for the IOTLB", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2022-07"), machine: PROTECTED }, NEW_LINUX), (rig) => {
      rig.run();
      assert.equal(told(rig), maskOf(F.VERSION_1, F.EVENT_IDX, F.ACCESS_PLATFORM));
    }));

  it("a kernel that does not offer it is not told", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2022-07"), machine: PROTECTED }, LINUX), (rig) => {
      rig.run();
      assert.ok(!has(told(rig), F.ACCESS_PLATFORM));
    }));

  it("after the repair no kernel is told", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2023-09"), machine: PROTECTED }, NEW_LINUX), (rig) => {
      rig.run();
      assert.ok(has(rig.player.negotiation.acknowledgedByGuest, F.ACCESS_PLATFORM));
      assert.ok(!has(told(rig), F.ACCESS_PLATFORM));
    }));

  it("a request that fails ends the start with its name and its error", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2022-07"), machine: PROTECTED }, NEW_LINUX), (rig) => {
      rig.kernel.fails.set("VHOST_VSOCK_SET_RUNNING", "EFAULT");
      assert.throws(
        () => rig.run(),
        (error) =>
          error instanceof StartRefused &&
          error.by === "back-end" &&
          error.message === "VHOST_VSOCK_SET_RUNNING: EFAULT",
      );
      assert.deepEqual(rig.events.at(-1), {
        kind: "message",
        text: "VHOST_VSOCK_SET_RUNNING 1",
        result: "EFAULT",
      });
    }));

  it("the guard of 2022-08 refuses a device behind a vIOMMU, if there ever was one", () => {
    const profile = vmmLike("crosvm-2022-08", { machine: { viommu: true, protectedMemory: true } });
    const machine = { ...BEHIND_VIOMMU, protectedMemory: true };
    using(new KernelRig({ profile, machine, kind: "viommu" }, NEW_LINUX), (rig) => {
      assert.throws(() => rig.run(), /Vhost IOTLB required but not supported/);
      assert.ok(!rig.kernel.heard.includes("SET_FEATURES"));
    });
  });
});

describe("the kernel's questions", () => {
  const miss = (iova: bigint, perm: number) => ({
    type: IOTLB_TYPE.MISS,
    iova,
    perm,
    size: 0n,
    userAddress: 0n,
  });

  it("are read and answered by a VMM that translates", () =>
    using(
      new KernelRig({ profile: vmmLike("qemu-5.0"), machine: BEHIND_VIOMMU, kind: "viommu" }, NEW_LINUX),
      (rig) => {
        rig.run();
        const { desc } = rig.guest.queues[1].addresses;
        rig.kernel.misses.push(miss(desc, 1), miss(0x7777_0000n, 1));
        const before = rig.kernel.written.length;
        assert.equal(rig.player.serve(), 2);
        assert.equal(rig.kernel.written.length, before + 1);
        assert.equal(rig.kernel.written.at(-1)?.iova, desc & ~0xfffn);
        assert.equal(rig.player.iotlb?.unanswered, 1);
      },
    ));

  it("are answered with the identity by a VMM that translates without a vIOMMU", () => {
    const machine = { ...PROTECTED, protectedMemory: false };
    using(new KernelRig({ profile: vmmLike("qemu-4.2"), machine }, NEW_LINUX), (rig) => {
      rig.run();
      const { desc } = rig.guest.queues[0].addresses;
      rig.kernel.misses.push(miss(desc, 3));
      rig.player.serve();
      const table = rig.kernel.requests.find(({ name }) => name === "VHOST_SET_MEM_TABLE");
      assert.ok(table?.name === "VHOST_SET_MEM_TABLE");
      const [region] = table.regions;
      const page = desc & ~0xfffn;
      const update = rig.kernel.written.at(-1);
      assert.equal(update?.iova, page);
      assert.equal(update?.userAddress, region.userAddress + (page - region.guestAddress));
    });
  });

  it("stay unread by a VMM that knows no IOTLB", () =>
    using(new KernelRig({ profile: vmmLike("crosvm-2022-07"), machine: PROTECTED }, NEW_LINUX), (rig) => {
      rig.run();
      rig.kernel.misses.push(miss(0x1000n, 1));
      assert.equal(rig.player.serve(), 0);
      assert.equal(rig.kernel.misses.length, 1);
    }));
});

describe("each built-in VMM that drives the kernel", () => {
  const all = builtinProfiles().vmms.filter(({ transport }) => transport === "kernel");
  for (const profile of all) {
    it(`starts the kernel's device and stops it: ${profile.name}`, () =>
      using(new KernelRig({ profile, machine: PLAIN }, NEW_LINUX), (rig) => {
        rig.run();
        assert.ok(rig.kernel.heard.includes("SET_RUNNING"));
        assert.equal(rig.player.stop().length, 2);
      }));
  }
});

describe("closing", () => {
  it("leaves no descriptor open, whichever player", () => {
    const before = openDescriptors();
    using(new KernelRig({ profile: vmmLike("qemu-7.2-kernel"), machine: PLAIN }, LINUX), (rig) => rig.run());
    using(new UserRig({ profile: vmmLike("qemu-7.2"), machine: BEHIND_VIOMMU, kind: "viommu" }), (rig) =>
      rig.run(),
    );
    assert.equal(openDescriptors(), before);
  });

  it("closes the device once", () => {
    const rig = new KernelRig({ profile: vmmLike("qemu-5.0"), machine: PLAIN }, LINUX);
    rig.run();
    rig.player.close();
    rig.player.close();
    assert.equal(rig.kernel.isClosed, true);
    rig.guest.close();
  });

  it("knows the guest's context id without asking", () =>
    using(new KernelRig({ profile: vmmLike("qemu-5.0"), machine: PLAIN }, LINUX), (rig) => {
      rig.player.initialize();
      assert.equal(rig.player.readCid(), 42);
    }));
});
