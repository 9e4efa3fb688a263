/** What has to hold between the values of a VMM's profile. The keys themselves: vmm-schema.ts. */
import { F, has, PROTOCOL_F } from "../../virtio/index.js";
import {
  type Condition,
  type OrderEntry,
  type RingStep,
  SETUP_STEPS,
  type Step,
  type VmmProfile,
} from "../vmm-profile.js";
import type { Rule } from "./collections.js";

/** Steps that only one of the two transports has. */
const KERNEL_STEPS: readonly Step[] = ["backend-features", "cid", "running"];
const VHOST_USER_STEPS: readonly Step[] = ["status", "channel", "enable"];

/** Where in `order` a step is done: the path to each of them. */
function placesOf(order: readonly OrderEntry[], wanted: (step: Step) => boolean): string[][] {
  return order.flatMap((entry, index) => {
    const at = ["order", String(index + 1)];
    if (typeof entry === "string") return wanted(entry) ? [at] : [];
    return entry.flatMap((step, below) => (wanted(step) ? [[...at, String(below + 1)]] : []));
  });
}

function lacksStep(order: readonly OrderEntry[], step: Step): boolean {
  return placesOf(order, (each) => each === step).length === 0;
}

function needed(step: Step, written: string, why: string): Rule<VmmProfile> {
  return {
    text: `${why}: \`${written}\` belongs into \`order\``,
    broken: ({ order }) => (lacksStep(order, step) ? ["order"] : undefined),
  };
}

/** Both of a pair, one key each. */
const EXCLUSIVE_CONDITIONS = ["device-offers-33", "device-lacks-33"] as const;

/** What only a vhost-user back-end can lack. */
const PROTOCOL_CONDITIONS: readonly Condition[] = [
  "device-lacks-config",
  "device-lacks-mq",
  "device-lacks-memory-slots",
  "device-lacks-mq",
  "device-lacks-memory-slots",
  "device-lacks-reply-ack",
  "device-lacks-backend-req",
  "device-lacks-protocol-features",
];

export const VMM_RULES: readonly Rule<VmmProfile>[] = [
  {
    text: "bit 33 has keys of its own, `bit-33` of `offer` and of `acknowledge`: leave ACCESS_PLATFORM out of this list",
    broken: ({ offer, acknowledge }) =>
      (["passed", "own"] as const)
        .map((key) => has(offer[key], F.ACCESS_PLATFORM) && ["offer", key])
        .find(Boolean) ||
      (["adds", "masks"] as const)
        .map((key) => has(acknowledge[key], F.ACCESS_PLATFORM) && ["acknowledge", key])
        .find(Boolean) ||
      undefined,
  },
  {
    text: "no guest is offered PROTOCOL_FEATURES (bit 30): leave it out of this list",
    broken: ({ offer }) =>
      (["passed", "own"] as const)
        .map((key) => has(offer[key], F.PROTOCOL_FEATURES) && ["offer", key])
        .find(Boolean) || undefined,
  },
  {
    text: "a bit that is never told to the device cannot be added: it stands in both `adds` and `masks`",
    broken: ({ acknowledge: { adds, masks } }) =>
      (adds & masks) === 0n ? undefined : ["acknowledge", "masks"],
  },
  {
    text: "this needs protected memory, which this machine cannot have: write `protected-memory: true` for the machine",
    broken: ({ offer, machine }) =>
      offer.bit33.startsWith("if-protected") && !machine.protectedMemory ? ["offer", "bit-33"] : undefined,
  },
  {
    text: "this needs a vIOMMU, which this machine cannot have: write `viommu: true` for the machine",
    broken: ({ acknowledge, machine, iotlb }) => {
      if (machine.viommu) return undefined;
      if (acknowledge.bit33 === "behind-viommu") return ["acknowledge", "bit-33"];
      return iotlb.serves && iotlb.translates === "behind-viommu" ? ["iotlb", "serves"] : undefined;
    },
  },
  {
    text: "protocol features are a matter of vhost-user: write `transport: vhost-user`, or `protocol-features: []`",
    broken: ({ transport, protocolFeatures }) =>
      transport === "kernel" && protocolFeatures !== 0n ? ["protocol-features"] : undefined,
  },
  {
    text: "backend features are a matter of kernel devices: write `transport: kernel`, or `backend-features: []`",
    broken: ({ transport, backendFeatures }) =>
      transport === "vhost-user" && backendFeatures !== 0n ? ["backend-features"] : undefined,
  },
  {
    text: "a channel for the back-end is a matter of vhost-user: write `backend-channel: never`",
    broken: ({ transport, backendChannel }) =>
      transport === "kernel" && backendChannel !== "never" ? ["backend-channel"] : undefined,
  },
  {
    text: "without BACKEND_REQ in `protocol-features` there is no channel for the back-end: write `backend-channel: never`",
    broken: ({ transport, backendChannel, protocolFeatures }) =>
      transport === "vhost-user" &&
      backendChannel !== "never" &&
      !has(protocolFeatures, PROTOCOL_F.BACKEND_REQ)
        ? ["backend-channel"]
        : undefined,
  },
  needed("features", "features", "a device has to be told the features"),
  needed("memory", "memory", "a device has to be told the guest's memory"),
  needed("addr", "[addr]", "a device has to be told where the rings are"),
  {
    text: "a step for the whole device is done once: this one stands in `order` twice",
    broken: ({ order }) => {
      const seen = new Set<Step>();
      const isSetup = (step: Step): boolean => (SETUP_STEPS as readonly Step[]).includes(step);
      return placesOf(order, (step) => isSetup(step) && seen.size === seen.add(step).size)[0];
    },
  },
  {
    text: "a kernel device is started by `running`, which belongs into `order`",
    broken: ({ transport, order }) =>
      transport === "kernel" && lacksStep(order, "running") ? ["order"] : undefined,
  },
  {
    text: `the kernel has no such request: ${VHOST_USER_STEPS.join(", ")} belong to vhost-user`,
    broken: ({ transport, order }) =>
      transport === "kernel" ? placesOf(order, (step) => VHOST_USER_STEPS.includes(step))[0] : undefined,
  },
  {
    text: `vhost-user has no such message: ${KERNEL_STEPS.join(", ")} belong to the kernel`,
    broken: ({ transport, order }) =>
      transport === "vhost-user" ? placesOf(order, (step) => KERNEL_STEPS.includes(step))[0] : undefined,
  },
  {
    text: "the step `channel` goes with `backend-channel: in-order`, and only with that",
    broken: ({ order, backendChannel }) =>
      (backendChannel === "in-order") === lacksStep(order, "channel") ? ["backend-channel"] : undefined,
  },
  {
    text: "used rings are mapped by a VMM that serves an IOTLB: leave out `used-rings`, or write `serves: true`",
    broken: ({ order, iotlb }) =>
      iotlb.serves ? undefined : placesOf(order, (step) => step === "used-rings")[0],
  },
  {
    text: "this is a matter of vhost-user: leave it out for a kernel device",
    broken: ({ transport, needReply, resetsDevice }) => {
      if (transport !== "kernel") return undefined;
      if (needReply.length > 0) return ["need-reply"];
      return resetsDevice ? ["resets-device"] : undefined;
    },
  },
  {
    text: "ring steps that need the guest's rings cannot come before it boots: leave `addr` and `enable` out",
    broken: ({ earlyRings }) =>
      pathTo("early-rings", earlyRings, (step) => step === "addr" || step === "enable"),
  },
  {
    text: "a VMM that serves no IOTLB sends no INVALIDATE: write `invalidates: never`",
    broken: ({ iotlb }) =>
      !iotlb.serves && iotlb.invalidates !== "never" ? ["iotlb", "invalidates"] : undefined,
  },
  {
    text: "a VMM that serves no IOTLB enables none: write `enables: nothing`, or leave it out",
    broken: ({ iotlb }) => (!iotlb.serves && iotlb.enables !== "nothing" ? ["iotlb", "enables"] : undefined),
  },
  {
    text: "`enables: own-bit` and `enables: explicit-protocol-feature` need `enables-bit`, and nothing else takes it",
    broken: ({ iotlb: { enables, enablesBit } }) =>
      (enables === "nothing") === (enablesBit === undefined)
        ? undefined
        : ["iotlb", enablesBit === undefined ? "enables" : "enables-bit"],
  },
  {
    text: "a protocol feature is a matter of vhost-user: write `enables: own-bit`, or `transport: vhost-user`",
    broken: ({ transport, iotlb }) =>
      transport === "kernel" && iotlb.enables === "explicit-protocol-feature"
        ? ["iotlb", "enables"]
        : undefined,
  },
  {
    text: `no device is both: ${EXCLUSIVE_CONDITIONS.join(" and ")} never hold together`,
    broken: ({ refuses }) =>
      refusalPath(refuses, (when) => EXCLUSIVE_CONDITIONS.every((each) => when.includes(each))),
  },
  {
    text: "there is no bit of `enables-bit` that a device could lack: leave `device-lacks-iotlb-bit` out",
    broken: ({ refuses, iotlb }) =>
      iotlb.enablesBit === undefined
        ? refusalPath(refuses, (when) => when.includes("device-lacks-iotlb-bit"))
        : undefined,
  },
  {
    text: "the guest acknowledges after it has booted: write `at: start`",
    broken: ({ refuses }) => {
      const index = refuses.findIndex(
        ({ when, at }) => at !== "start" && when.includes("guest-acknowledged-33"),
      );
      return index < 0 ? undefined : ["refuses", String(index + 1), "at"];
    },
  },
  {
    text: "a kernel device has no protocol features that it could lack: leave this condition out",
    broken: ({ transport, refuses }) =>
      transport === "kernel"
        ? refusalPath(refuses, (when) =>
            when.some((each) => PROTOCOL_CONDITIONS.some((other) => other === each)),
          )
        : undefined,
  },
];

function refusalPath(
  refuses: VmmProfile["refuses"],
  isWrong: (when: readonly string[]) => boolean,
): readonly string[] | undefined {
  const index = refuses.findIndex(({ when }) => isWrong(when));
  return index < 0 ? undefined : ["refuses", String(index + 1), "when"];
}

function pathTo(
  key: string,
  steps: readonly RingStep[],
  isWrong: (step: RingStep) => boolean,
): string[] | undefined {
  const index = steps.findIndex(isWrong);
  return index < 0 ? undefined : [key, String(index + 1)];
}
