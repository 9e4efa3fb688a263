/** Cases about how a guest's DMA works: each kind of guest boots under a VMM like QEMU and moves data. */
import type { PlatformOptions } from "../../guest/platform.js";
import type { ConformanceCase, Needs, Rule } from "../case.js";
import { assertMachineWorks, boot } from "../machine.js";
import { vhostUser, virtio } from "../rules.js";

const PLAIN: Needs = { protocolFeatures: ["CONFIG"], endpoints: ["uds"] };
const BEHIND_VIOMMU: Needs = {
  features: ["ACCESS_PLATFORM"],
  protocolFeatures: ["CONFIG", "REPLY_ACK", "BACKEND_REQ"],
  endpoints: ["uds"],
};
const CONFINED = virtio(
  "6 Reserved Feature Bits",
  "VIRTIO_F_ACCESS_PLATFORM: accesses are limited or translated, as described by platform-specific means",
);
const TRANSLATED = vhostUser("IOMMU support", "mappings come and go by IOTLB updates and invalidations");

function kind(
  name: string,
  title: string,
  rule: Rule,
  needs: Needs,
  platform: PlatformOptions,
): ConformanceCase {
  return {
    id: `guests.${name}`,
    title,
    rule,
    needs,
    async run(context) {
      const { machine } = await boot(context, { platform });
      await assertMachineWorks(context, machine);
      await assertMachineWorks(context, machine, 5000);
    },
  };
}

const SPLIT_MEMORY = [
  { gpa: 0, bytes: 2 ** 20 },
  { gpa: 2 ** 32, bytes: 2 ** 26 },
] as const;

export const GUEST_KIND_CASES: readonly ConformanceCase[] = [
  kind(
    "direct",
    "a guest without a DMA API, whose addresses are guest-physical, works",
    vhostUser("Memory access", "guest addresses map to the vhost memory region containing that address"),
    PLAIN,
    { kind: "direct", slots: SPLIT_MEMORY },
  ),
  kind(
    "restricted",
    "a guest that bounces everything through one shared pool works, bit 33 masked by its VMM",
    CONFINED,
    PLAIN,
    { kind: "restricted" },
  ),
  kind(
    "protected",
    "a guest whose memory is private but for a pool, and which insists on bit 33, works under a VMM that keeps the bit to itself",
    CONFINED,
    PLAIN,
    { kind: "protected" },
  ),
  kind(
    "passthrough",
    "a guest behind a vIOMMU in passthrough works: I/O virtual addresses that equal guest-physical ones",
    TRANSLATED,
    BEHIND_VIOMMU,
    { kind: "passthrough" },
  ),
  kind(
    "viommu-strict",
    "a guest behind a vIOMMU that takes each mapping back at once works",
    TRANSLATED,
    BEHIND_VIOMMU,
    { kind: "viommu", unmapping: "strict" },
  ),
  kind(
    "viommu-lazy",
    "a guest behind a vIOMMU that takes mappings back in bulk works",
    TRANSLATED,
    BEHIND_VIOMMU,
    { kind: "viommu", unmapping: "lazy", slots: SPLIT_MEMORY },
  ),
  {
    id: "guests.reboot",
    title: "a guest that boots again, with a vIOMMU or without, finds nothing of the one before",
    rule: TRANSLATED,
    needs: BEHIND_VIOMMU,
    async run(context) {
      for (const platform of [{ kind: "viommu" }, { kind: "direct" }, { kind: "viommu" }] as const) {
        const { machine, off } = await boot(context, { platform });
        await assertMachineWorks(context, machine, 20_000);
        off();
      }
    },
  },
];
