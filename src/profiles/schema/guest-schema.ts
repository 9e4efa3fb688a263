/** What a file with `profile: guest` may say. The types, and what they stand for: ../guest-profile.ts. */
import { F, has } from "../../virtio/index.js";
import type { GuestDma, GuestProfile, HostileDriver } from "../guest-profile.js";
import { mapOf, type Rule, withRules } from "./collections.js";
import { featureWord } from "./feature-words.js";
import { HEAD } from "./head-schema.js";
import { choice, flag } from "./scalars.js";

const HOSTILE = mapOf<HostileDriver>({
  rings: {
    help: "Where it puts its rings.",
    shape: choice<HostileDriver["rings"]>({
      "user-addresses":
        "At addresses of the VMM's process, which it has guessed; nothing is mapped in the vIOMMU.",
    }),
  },
  skipsFeaturesOk: {
    help: "It skips the FEATURES_OK step of the negotiation, as a driver may try that fears to be refused.",
    shape: flag(),
  },
});

export const GUEST_RULES: readonly Rule<GuestProfile>[] = [
  {
    text: "a driver needs the bits that it requires: whatever is in `requires` belongs into `knows` too",
    broken: ({ knows, requires }) => ((requires & ~knows) === 0n ? undefined : ["requires"]),
  },
  {
    text: "the drivers played here know no legacy devices: VERSION_1 belongs into `knows`",
    broken: ({ knows }) => (has(knows, F.VERSION_1) ? undefined : ["knows"]),
  },
  {
    text: "lazy unmapping needs a vIOMMU to unmap from: write `dma: viommu`, or `unmapping: strict`",
    broken: ({ dma, unmapping }) => (unmapping === "lazy" && dma !== "viommu" ? ["unmapping"] : undefined),
  },
  {
    text: "this kind of DMA goes through a vIOMMU: write `viommu: true` for the machine",
    broken: ({ dma, machine }) =>
      (dma === "viommu" || dma === "passthrough") && !machine.viommu ? ["machine", "viommu"] : undefined,
  },
  {
    text: "a pool is shared with the device where all else is private: write `protected-memory: true` for the machine",
    broken: ({ dma, machine }) =>
      (dma === "restricted" || dma === "protected") && !machine.protectedMemory
        ? ["machine", "protected-memory"]
        : undefined,
  },
  {
    text: "a protected guest refuses a device without bit 33: ACCESS_PLATFORM belongs into `requires`",
    broken: ({ dma, requires }) =>
      dma === "protected" && !has(requires, F.ACCESS_PLATFORM) ? ["requires"] : undefined,
  },
  {
    text: "a hostile driver wants what a vIOMMU withholds: write `viommu: true` for the machine",
    broken: ({ hostile, machine }) =>
      hostile !== undefined && !machine.viommu ? ["machine", "viommu"] : undefined,
  },
];

export const GUEST_SCHEMA = withRules(
  mapOf<GuestProfile>({
    kind: {
      key: "profile",
      help: "What the file describes.",
      shape: choice<"guest">({ guest: "A guest with its driver." }),
    },
    ...HEAD,
    dma: {
      help: "What the guest's DMA API does for the device.",
      shape: choice<GuestDma>({
        direct: "There is none, or it does nothing: the device is given guest-physical addresses.",
        passthrough:
          "A vIOMMU whose domain is an identity (`iommu=pt`): guest-physical addresses, through the vIOMMU.",
        viommu: "A vIOMMU: each buffer gets an I/O virtual address for as long as it is mapped.",
        restricted: "Everything is private but one shared pool, into which buffers are copied.",
        protected: "As `restricted`, in a guest that refuses a device which would go around the pool.",
      }),
    },
    unmapping: {
      help: "When an unmapped address is taken from the device, behind a vIOMMU.",
      shape: choice<GuestProfile["unmapping"]>({
        strict: "At once.",
        lazy: "Later, and many together (`iommu.strict=0`).",
      }),
      optional: { meaning: "`strict`", value: "strict" },
    },
    knows: {
      help: "The bits that it acknowledges if they are offered.",
      shape: featureWord("virtio"),
    },
    requires: {
      help: "The bits without which it refuses the device.",
      shape: featureWord("virtio"),
      optional: { meaning: "none", value: 0n },
    },
    machine: {
      help: "What the user of the VMM has to configure for such a guest.",
      shape: mapOf<GuestProfile["machine"]>({
        iommuPlatform: {
          help: "The device is to be used through the DMA API (QEMU: `iommu_platform=on`).",
          shape: flag(),
        },
        protectedMemory: {
          help: "Memory is private but for what the guest shares (pKVM, confidential VMs).",
          shape: flag(),
        },
        viommu: { help: "There is a vIOMMU in front of the device.", shape: flag() },
      }),
    },
    hostile: {
      help: "Set for a driver that wants to reach what its vIOMMU withholds.",
      shape: HOSTILE,
      optional: { meaning: "an honest driver" },
    },
  }),
  GUEST_RULES,
);
