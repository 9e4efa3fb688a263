/**
 * Arbitrary guests and devices that contradict themselves nowhere, for tests of how profiles are read and written.
 * The VMMs: vmm-arbitraries.fixture.ts.
 */
import fc from "fast-check";
import { BACKEND_F, F, mask, maskOf } from "../../virtio/index.js";
import type { DeviceProfile, IotlbSwitch, ModelledDevice, OwnDevice } from "../device-profile.js";
import type { GuestDma, GuestProfile } from "../guest-profile.js";
import type { Transport } from "../head.js";
import { bit, head, word } from "./value-arbitraries.fixture.js";

export const guests: fc.Arbitrary<GuestProfile> = fc
  .record({
    head,
    dma: fc.constantFrom<GuestDma>("direct", "passthrough", "viommu", "restricted", "protected"),
    lazy: fc.boolean(),
    knows: word,
    requires: word,
    machine: fc.record({
      iommuPlatform: fc.boolean(),
      protectedMemory: fc.boolean(),
      viommu: fc.boolean(),
    }),
    skips: fc.option(fc.boolean(), { nil: undefined }),
  })
  .map(({ head, dma, lazy, knows, requires, machine, skips }): GuestProfile => {
    const needs = dma === "protected" ? maskOf(F.VERSION_1, F.ACCESS_PLATFORM) : mask(F.VERSION_1);
    const hasPool = dma === "restricted" || dma === "protected";
    const hasViommu = dma === "viommu" || dma === "passthrough" || skips !== undefined;
    return {
      kind: "guest",
      ...head,
      dma,
      unmapping: lazy && dma === "viommu" ? "lazy" : "strict",
      knows: knows | needs,
      requires: (requires & knows) | (dma === "protected" ? needs : 0n),
      machine: {
        iommuPlatform: machine.iommuPlatform,
        protectedMemory: machine.protectedMemory || hasPool,
        viommu: machine.viommu || hasViommu,
      },
      ...(skips === undefined ? {} : { hostile: { rings: "user-addresses", skipsFeaturesOk: skips } }),
    };
  });

const modelled = (transports: readonly Transport[]): fc.Arbitrary<ModelledDevice> =>
  fc
    .record({
      features: word,
      protocolFeatures: transports.includes("vhost-user") ? word : fc.constant(0n),
      backendFeatures: transports.includes("kernel") ? word : fc.constant(0n),
      unofferedFeatures: fc.constantFrom<ModelledDevice["unofferedFeatures"]>(
        "refuses",
        "leaves",
        "exits",
        "takes",
      ),
      frontEndMasks: word,
      enabledBy: fc.constantFrom<IotlbSwitch>(
        "never",
        "bit-33",
        "own-bit",
        "first-message",
        ...(transports.includes("kernel") ? (["bit-33-and-msg-v2"] as const) : []),
      ),
      ownBit: bit.filter((each) => each !== F.PROTOCOL_FEATURES),
      iotlb: fc.record({
        togglingClearsAddresses: fc.boolean(),
        turnsOffAgain: fc.boolean(),
        ringsNeeded: fc.constantFrom<ModelledDevice["iotlb"]["ringsNeeded"]>("at-start", "when-used"),
        honoursInvalidate: fc.boolean(),
      }),
    })
    .map(({ features, backendFeatures, enabledBy, ownBit, iotlb, ...rest }): ModelledDevice => {
      const hasOwnBit = enabledBy === "own-bit";
      const offered = features & ~mask(F.PROTOCOL_FEATURES);
      return {
        engine: "model",
        ...rest,
        features: hasOwnBit ? offered | mask(ownBit) : offered,
        backendFeatures:
          enabledBy === "bit-33-and-msg-v2"
            ? backendFeatures | mask(BACKEND_F.IOTLB_MSG_V2)
            : backendFeatures,
        iotlb: { enabledBy, ownBit: hasOwnBit ? ownBit : undefined, ...iotlb },
      };
    });

const own: fc.Arbitrary<OwnDevice> = fc.record({
  engine: fc.constant("bit33" as const),
  iotlb: fc.constantFrom<OwnDevice["iotlb"]>("off", "on", "auto", "explicit"),
  accessPlatform: fc.boolean(),
});

const device = (transports: readonly Transport[], behaviour: fc.Arbitrary<ModelledDevice | OwnDevice>) =>
  fc
    .record({ head, behaviour })
    .map(({ head, behaviour }): DeviceProfile => ({ kind: "device", ...head, transports, behaviour }));

export const devices: fc.Arbitrary<DeviceProfile> = fc.oneof(
  device(["vhost-user"], own),
  ...([["kernel"], ["vhost-user"], ["kernel", "vhost-user"]] as const).map((transports) =>
    device(transports, modelled(transports)),
  ),
);
