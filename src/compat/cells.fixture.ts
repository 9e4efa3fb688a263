/** Cells made by hand, for the tests of what presents cells. */
import type { CellConfig, CellRecord, InapplicableCell, Step, Story, Verdict } from "./record.js";

export const CONFIG: CellConfig = {
  protectedMemory: false,
  iommuPlatform: false,
  viommu: false,
  unmapping: "strict",
  transport: "kernel",
  deviceOptions: "",
};

export const STORY: Story = {
  steps: [
    { kind: "negotiation", actor: "device", text: "offers 0x33d000002, bit 33 among it" },
    { kind: "belief", actor: "vmm", text: "bit 33 tells the guest to use the DMA API" },
    { kind: "negotiation", actor: "guest", text: "acknowledges 0x330000000" },
    { kind: "message", actor: "vmm", text: "VHOST_SET_FEATURES 0x330000000 → 0" },
    {
      kind: "belief",
      actor: "device",
      text: "bit 33 turns the IOTLB on; it is empty",
      parting: true,
    },
    { kind: "access", actor: "device", text: "looks up the used ring of queue 0 in an empty IOTLB" },
    { kind: "end", actor: "vmm", text: "VHOST_VSOCK_SET_RUNNING → -EFAULT (Bad address)" },
  ],
  beliefs: {
    guest: "Bit 33 means: use the DMA API.",
    vmm: "Bit 33 is between guest and device model.",
    device: "Bit 33 means: translate through the IOTLB.",
  },
  summary: "crosvm offers bit 33 so that the guest uses the DMA API. The kernel takes it for the IOTLB.",
};

const NAMES = { guest: "plain", vmm: "qemu-7.2", device: "linux-5.15" } as const;

type Overrides = Partial<Omit<CellRecord, "verdict">>;

/** `cell("plain/qemu-7.2/linux-5.15", "works", {reason: "…"})`. */
export function cell(name: string, verdict: Verdict, overrides: Overrides = {}): CellRecord {
  return {
    ...named(name),
    reason: `${verdict}, because it does`,
    evidence: "derived",
    sources: ["Linux v5.15 drivers/vhost/vsock.c"],
    config: CONFIG,
    story: STORY,
    ...overrides,
    verdict,
  };
}

export function inapplicable(name: string, reason = "it has no kernel device"): InapplicableCell {
  return { ...named(name), verdict: null, reason, evidence: "derived", sources: ["a source"] };
}

export function storyOf(...steps: Step[]): Story {
  return { ...STORY, steps };
}

function named(name: string) {
  const [guest = NAMES.guest, vmm = NAMES.vmm, device = NAMES.device] = name.split("/");
  return { guest, vmm, device };
}
