/**
 * Profiles are not decoration: change one line of a built-in one, and a cell comes out differently. Each test says
 * which cell, which line, and from what to what. (The reasons are looked at as well, so that the change is what did it.)
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { runCell } from "../../src/compat/cell.js";
import type { Verdict } from "../../src/compat/record.js";
import { builtinDevice, builtinGuest, builtinVmm } from "../../src/profiles/builtin.js";
import type { DeviceProfile, ModelledDevice } from "../../src/profiles/device-profile.js";
import type { GuestProfile } from "../../src/profiles/guest-profile.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { F, without } from "../../src/virtio/index.js";

interface Three {
  readonly guest: GuestProfile;
  readonly vmm: VmmProfile;
  readonly device: DeviceProfile;
}

interface Mutation {
  readonly what: string;
  /** guest/vmm/device */
  readonly cell: string;
  readonly change: (three: Three) => Partial<Three>;
  readonly from: Verdict;
  readonly to: Verdict;
  readonly reason: RegExp;
}

const model = ({ behaviour }: DeviceProfile): ModelledDevice => {
  assert.equal(behaviour.engine, "model");
  return behaviour as ModelledDevice;
};

const vmm =
  (change: (profile: VmmProfile) => Partial<VmmProfile>): Mutation["change"] =>
  (three) => ({ vmm: { ...three.vmm, ...change(three.vmm) } });

const guest =
  (change: (profile: GuestProfile) => Partial<GuestProfile>): Mutation["change"] =>
  (three) => ({ guest: { ...three.guest, ...change(three.guest) } });

const deviceIotlb =
  (change: Partial<ModelledDevice["iotlb"]>): Mutation["change"] =>
  ({ device }) => {
    const behaviour = model(device);
    return { device: { ...device, behaviour: { ...behaviour, iotlb: { ...behaviour.iotlb, ...change } } } };
  };

const vmmIotlb = (change: Partial<VmmProfile["iotlb"]>): Mutation["change"] =>
  vmm(({ iotlb }) => ({ iotlb: { ...iotlb, ...change } }));

const MUTATIONS: readonly Mutation[] = [
  {
    what: "crosvm's mask of bit 33 is removed",
    cell: "restricted-dma/crosvm-2022-08/linux-5.15",
    change: vmm(({ acknowledge }) => ({ acknowledge: { ...acknowledge, bit33: "if-offered" } })),
    from: "works",
    to: "fails-to-start",
    reason: /SET_RUNNING gives -EFAULT: .* empty IOTLB/,
  },
  {
    what: "the VMM offers bit 33 to nobody",
    cell: "restricted-dma/crosvm-2022-08/linux-5.15",
    change: vmm(({ offer }) => ({ offer: { ...offer, bit33: "never" } })),
    from: "works",
    to: "faults",
    reason: /private memory/,
  },
  {
    what: "the VMM withholds UPDATEs: it serves no IOTLB",
    cell: "passthrough/qemu-10.0/dpdk-like",
    change: vmmIotlb({ serves: false }),
    from: "works",
    to: "stalls",
    reason: /a mapping for .* is asked for and never comes/,
  },
  {
    what: "the VMM withholds INVALIDATEs",
    cell: "viommu-strict/qemu-10.0/dpdk-like",
    change: vmmIotlb({ invalidates: "never" }),
    from: "works",
    to: "corrupts",
    reason: /a mapping that the guest has taken back/,
  },
  {
    what: "the device ignores INVALIDATEs",
    cell: "viommu-strict/qemu-10.0/dpdk-like",
    change: deviceIotlb({ honoursInvalidate: false }),
    from: "works",
    to: "corrupts",
    reason: /a mapping that the guest has taken back/,
  },
  {
    what: "lazy INVALIDATEs are passed on after all",
    cell: "viommu-lazy/qemu-7.2/dpdk-like",
    change: vmmIotlb({ invalidates: "always" }),
    from: "corrupts",
    to: "works",
    reason: /goes through the IOTLB/,
  },
  {
    what: "ring addresses are guest-physical instead of the VMM's own",
    cell: "plain/qemu-7.2/bit33-off",
    change: vmm(() => ({ ringAddresses: "guest-physical" })),
    from: "works",
    to: "refused",
    reason: /lies outside of the memory table/,
  },
  {
    what: "features are told after the ring addresses, which the change of bit 33 clears",
    cell: "viommu-strict/qemu-10.0-kernel/linux-6.12",
    change: vmm(({ order }) => {
      const rest = order.filter((entry) => entry !== "features");
      const at = rest.findIndex((entry) => Array.isArray(entry) && entry.includes("addr"));
      return { order: [...rest.slice(0, at + 1), "features", ...rest.slice(at + 1)] };
    }),
    from: "works",
    to: "fails-to-start",
    reason: /SET_RUNNING gives -EFAULT/,
  },
  {
    what: "the back-end channel is never opened",
    cell: "viommu-strict/qemu-10.0/bit33-auto",
    change: vmm(() => ({ backendChannel: "never" })),
    from: "works",
    to: "refused",
    reason: /gave no back-end channel/,
  },
  {
    what: "QEMU's refusal of a device without REPLY_ACK and BACKEND_REQ is removed",
    cell: "viommu-strict/qemu-7.2/crosvm-backend",
    change: vmm(() => ({ refuses: [] })),
    from: "refused",
    to: "crashes",
    reason: /the device dies/,
  },
  {
    what: "the guest no longer requires bit 33",
    cell: "protected/crosvm-vhost-user/vhost-device-vsock",
    change: guest(({ requires }) => ({ requires: without(requires, F.ACCESS_PLATFORM) })),
    from: "refused",
    to: "faults",
    reason: /private memory/,
  },
  {
    what: "the used rings are not mapped before the start",
    cell: "viommu-strict/qemu-10.0-kernel/linux-6.12",
    change: vmm(({ order }) => ({ order: order.filter((entry) => entry !== "used-rings") })),
    from: "works",
    to: "fails-to-start",
    reason: /the used ring of queue 0 .* empty IOTLB/,
  },
  {
    what: "the VMM goes on though the used rings cannot be mapped, as QEMU did before 9.2",
    cell: "hostile-ack/qemu-10.0/bit33-auto",
    change: vmmIotlb({ unmappedUsedRing: "ignored" }),
    from: "fails-to-start",
    to: "exposes",
    reason: /^rings and buffers at addresses of the driver's choice/,
  },
  {
    what: "the VMM survives a question that it does not know",
    cell: "restricted-dma/crosvm-vhost-user/dpdk-like",
    change: vmmIotlb({ unexpectedMiss: "ignored" }),
    from: "crashes",
    to: "stalls",
    reason: /is asked for and never comes/,
  },
  {
    what: "the operator sets --iotlb on, because the guest's driver is not trusted",
    cell: "hostile-ack/qemu-7.2/bit33-auto",
    change: ({ device }) => ({
      device: { ...device, behaviour: { engine: "bit33", iotlb: "on", accessPlatform: true } },
    }),
    from: "exposes",
    to: "stalls",
    reason: /^contained: /,
  },
];

describe("one line of a profile", () => {
  for (const { what, cell, change, from, to, reason } of MUTATIONS) {
    it(`decides ${cell}, ${from}, which ${to === "works" ? "works" : `is "${to}"`} once ${what}`, async () => {
      const [guestName, vmmName, deviceName] = cell.split("/");
      const three: Three = {
        guest: builtinGuest(guestName),
        vmm: builtinVmm(vmmName),
        device: builtinDevice(deviceName),
      };
      const before = await runCell(three.guest, three.vmm, three.device);
      assert.equal(before.verdict, from, before.reason);
      const changed = { ...three, ...change(three) };
      const after = await runCell(changed.guest, changed.vmm, changed.device);
      assert.equal(after.verdict, to, after.reason);
      assert.match(after.reason, reason);
    });
  }

  it("is changed in ten cells at least", () => {
    assert.ok(MUTATIONS.length >= 10);
  });
});
