/** What a file with `profile: device` may say. The types, and what they stand for: ../device-profile.ts. */
import { BACKEND_F, F, has } from "../../virtio/index.js";
import type { DeviceProfile, IotlbSwitch, ModelledDevice, OwnDevice } from "../device-profile.js";
import { listOf, mapOf, type Rule, variantsOf, withRules } from "./collections.js";
import { featureBit, featureWord } from "./feature-words.js";
import { HEAD, TRANSPORT } from "./head-schema.js";
import { choice, flag } from "./scalars.js";

const IOTLB = mapOf<ModelledDevice["iotlb"]>({
  enabledBy: {
    help: "What turns the IOTLB on.",
    shape: choice<IotlbSwitch>({
      never: "It has none.",
      "bit-33": "Bit 33 in SET_FEATURES (Linux since e13a6915a03f, DPDK).",
      "bit-33-and-msg-v2": "Bit 33, and the backend feature IOTLB_MSG_V2 (proposed in the thread of 2022).",
      "own-bit": "A feature bit of its own, `own-bit` (proposed).",
      "first-message": "The first UPDATE or INVALIDATE; everything is reachable before (proposed).",
    }),
  },
  ownBit: {
    help: "The bit, for `enabled-by: own-bit`.",
    shape: featureBit("virtio"),
    optional: { meaning: "no such bit", value: undefined },
  },
  togglingClearsAddresses: {
    help: "SET_FEATURES that turns translation on or off forgets the ring addresses (Linux 6.12).",
    shape: flag(),
    optional: { meaning: "`false`", value: false },
  },
  turnsOffAgain: {
    help: "SET_FEATURES without what enables translation turns it off; Linux before 6.12 keeps the IOTLB.",
    shape: flag(),
    optional: { meaning: "`true`", value: true },
  },
  ringsNeeded: {
    help: "When the ring areas have to be mapped.",
    shape: choice<ModelledDevice["iotlb"]["ringsNeeded"]>({
      "at-start": "At the start, which fails otherwise (Linux).",
      "when-used": "When they are first used (DPDK).",
    }),
  },
  honoursInvalidate: {
    help: "It takes INVALIDATE seriously; a device that does not is broken.",
    shape: flag(),
    optional: { meaning: "`true`", value: true },
  },
});

const MODELLED = mapOf<ModelledDevice>({
  engine: {
    help: "Who plays it.",
    shape: choice<"model">({ model: "A model that does what these keys say." }),
  },
  features: { help: "The virtio features that it offers, bit 30 not counted.", shape: featureWord("virtio") },
  protocolFeatures: {
    help: "The vhost-user protocol features that it offers.",
    shape: featureWord("protocol"),
    optional: { meaning: "none", value: 0n },
  },
  backendFeatures: {
    help: "The vhost backend features that it offers, as a kernel device.",
    shape: featureWord("backend"),
    optional: { meaning: "none", value: 0n },
  },
  unofferedFeatures: {
    help: "What it makes of SET_FEATURES with a bit that it did not offer.",
    shape: choice<ModelledDevice["unofferedFeatures"]>({
      refuses: "An error.",
      leaves: "It ends the session and waits for the next front-end.",
      exits: "Its process ends.",
      takes: "It is taken as it is.",
    }),
  },
  frontEndMasks: {
    help: 'Bits that never reach it: whoever stands in front masks them ("mask in the VMM").',
    shape: featureWord("virtio"),
    optional: { meaning: "none", value: 0n },
  },
  iotlb: { help: "Its IOTLB.", shape: IOTLB },
});

const OWN = mapOf<OwnDevice>({
  engine: { help: "Who plays it.", shape: choice<"bit33">({ bit33: "This project's device, as it is." }) },
  iotlb: {
    help: "Its option `--iotlb`.",
    shape: choice<OwnDevice["iotlb"]>({
      off: "Nothing is translated.",
      on: "Every address is translated, whatever was acknowledged.",
      auto: "Decided from what the VMM does.",
      explicit: "A protocol feature of its own turns it on (docs/explicit-iotlb.md).",
    }),
  },
  accessPlatform: { help: "Its option `--access-platform`: whether bit 33 is offered.", shape: flag() },
});

/** A rule for modelled devices. */
function modelled(
  text: string,
  broken: (device: ModelledDevice, profile: DeviceProfile) => string[] | undefined,
) {
  return {
    text,
    broken: (profile: DeviceProfile) => {
      const { behaviour } = profile;
      const path = behaviour.engine === "model" ? broken(behaviour, profile) : undefined;
      return path && ["behaviour", ...path];
    },
  };
}

export const DEVICE_RULES: readonly Rule<DeviceProfile>[] = [
  modelled("`enabled-by: own-bit` needs the bit: write `own-bit` too", ({ iotlb: { enabledBy, ownBit } }) =>
    enabledBy === "own-bit" && ownBit === undefined ? ["iotlb", "enabled-by"] : undefined,
  ),
  modelled(
    "`own-bit` goes with `enabled-by: own-bit`, and only with that",
    ({ iotlb: { enabledBy, ownBit } }) =>
      enabledBy !== "own-bit" && ownBit !== undefined ? ["iotlb", "own-bit"] : undefined,
  ),
  modelled(
    "nobody acknowledges a bit that is not offered: that of `own-bit` belongs into `features`",
    (device) =>
      device.iotlb.ownBit !== undefined && !has(device.features, device.iotlb.ownBit)
        ? ["iotlb", "own-bit"]
        : undefined,
  ),
  modelled("`enabled-by: bit-33-and-msg-v2` needs IOTLB_MSG_V2 in `backend-features`", (device) =>
    device.iotlb.enabledBy === "bit-33-and-msg-v2" && !has(device.backendFeatures, BACKEND_F.IOTLB_MSG_V2)
      ? ["iotlb", "enabled-by"]
      : undefined,
  ),
  modelled(
    "PROTOCOL_FEATURES (bit 30) is offered by itself, over vhost-user: leave it out of `features`",
    (device) => (has(device.features, F.PROTOCOL_FEATURES) ? ["features"] : undefined),
  ),
  modelled(
    "protocol features are a matter of vhost-user, which `transports` does not name: write `protocol-features: []`",
    (device, { transports }) =>
      device.protocolFeatures !== 0n && !transports.includes("vhost-user")
        ? ["protocol-features"]
        : undefined,
  ),
  modelled(
    "backend features are a matter of kernel devices, which `transports` does not name: write `backend-features: []`",
    (device, { transports }) =>
      device.backendFeatures !== 0n && !transports.includes("kernel") ? ["backend-features"] : undefined,
  ),
  {
    text: "this project's device is reached over vhost-user only: write `transports: [vhost-user]`",
    broken: ({ behaviour, transports }) =>
      behaviour.engine === "bit33" && transports.includes("kernel") ? ["transports"] : undefined,
  },
];

export const DEVICE_SCHEMA = withRules(
  mapOf<DeviceProfile>({
    kind: {
      key: "profile",
      help: "What the file describes.",
      shape: choice<"device">({ device: "A vsock device at its vhost interface." }),
    },
    ...HEAD,
    transports: {
      help: "How a VMM may reach it.",
      shape: listOf(TRANSPORT, { notation: "a list of transports, one at least", least: 1, flow: true }),
    },
    behaviour: {
      help: "What it does.",
      shape: variantsOf<ModelledDevice | OwnDevice, "engine">("engine", {
        model: { help: "A device that is played as the keys below say.", shape: MODELLED },
        bit33: { help: "This project's own device, with these options.", shape: OWN },
      }),
    },
  }),
  DEVICE_RULES,
);
