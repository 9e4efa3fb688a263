/** Arbitrary VMMs that contradict themselves nowhere, for tests of how profiles are read and written. */
import fc from "fast-check";
import { F, mask, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import type { Transport } from "../head.js";
import {
  CONDITIONS,
  type OrderEntry,
  type Refusal,
  RING_STEPS,
  type RingStep,
  type SetupStep,
  type Step,
  type VmmProfile,
} from "../vmm-profile.js";
import { bit, head, text, word } from "./value-arbitraries.fixture.js";

/** What the values of the other keys depend on. */
interface Frame {
  readonly transport: Transport;
  readonly viommu: boolean;
  readonly protectedMemory: boolean;
  readonly serves: boolean;
  readonly channel: VmmProfile["backendChannel"];
  readonly enables: VmmProfile["iotlb"]["enables"];
}

const frames: fc.Arbitrary<Frame> = fc
  .record({
    transport: fc.constantFrom<Transport>("kernel", "vhost-user"),
    viommu: fc.boolean(),
    protectedMemory: fc.boolean(),
    serves: fc.boolean(),
    channel: fc.constantFrom<Frame["channel"]>("never", "at-initialization", "in-order"),
    enables: fc.constantFrom<Frame["enables"]>("nothing", "own-bit", "explicit-protocol-feature"),
  })
  .map((frame): Frame => {
    const isKernel = frame.transport === "kernel";
    const canEnable = frame.serves && !(isKernel && frame.enables === "explicit-protocol-feature");
    return {
      ...frame,
      channel: isKernel ? "never" : frame.channel,
      enables: canEnable ? frame.enables : "nothing",
    };
  });

/** Those of the words that may stand there: each with whether it may. */
function allowed<Word extends string>(words: Readonly<Record<Word, boolean>>): fc.Arbitrary<Word> {
  return fc.constantFrom(...(Object.keys(words) as Word[]).filter((each) => words[each]));
}

function offers({ protectedMemory }: Frame): fc.Arbitrary<VmmProfile["offer"]> {
  const plain = word.map((each) => each & ~maskOf(F.PROTOCOL_FEATURES, F.ACCESS_PLATFORM));
  return fc.record({
    passed: plain,
    own: plain,
    bit33: allowed<VmmProfile["offer"]["bit33"]>({
      "by-option": true,
      "if-protected": protectedMemory,
      "if-protected-and-offered": protectedMemory,
      "as-offered": true,
      always: true,
      never: true,
    }),
  });
}

function acknowledgements({ viommu }: Frame): fc.Arbitrary<VmmProfile["acknowledge"]> {
  const plain = word.map((each) => each & ~mask(F.ACCESS_PLATFORM));
  return fc
    .record({
      maskedByDevice: fc.boolean(),
      adds: plain,
      masks: plain,
      bit33: allowed<VmmProfile["acknowledge"]["bit33"]>({
        always: true,
        "if-offered": true,
        "behind-viommu": viommu,
        never: true,
      }),
    })
    .map((each) => ({ ...each, masks: each.masks & ~each.adds }));
}

function iotlbs({ serves, viommu, enables }: Frame): fc.Arbitrary<VmmProfile["iotlb"]> {
  return fc.record({
    serves: fc.constant(serves),
    translates: allowed<VmmProfile["iotlb"]["translates"]>({
      "behind-viommu": viommu || !serves,
      "with-iommu-platform": true,
    }),
    enables: fc.constant(enables),
    enablesBit: enables === "nothing" ? fc.constant(undefined) : bit,
    invalidates: allowed<VmmProfile["iotlb"]["invalidates"]>({
      always: serves,
      "strict-only": serves,
      never: true,
    }),
    unmappedUsedRing: fc.constantFrom<VmmProfile["iotlb"]["unmappedUsedRing"]>("ignored", "fails"),
    unexpectedMiss: fc.constantFrom<VmmProfile["iotlb"]["unexpectedMiss"]>("ignored", "refused", "dies"),
  });
}

function orders({ transport, serves, channel }: Frame): fc.Arbitrary<readonly OrderEntry[]> {
  const isKernel = transport === "kernel";
  const required: SetupStep[] = ["features", "memory"];
  if (isKernel) required.push("running");
  if (channel === "in-order") required.push("channel");
  const optional: SetupStep[] = isKernel ? ["backend-features", "cid"] : ["status"];
  if (serves) optional.push("used-rings");
  const rings = RING_STEPS.filter((step) => step !== "addr" && !(isKernel && step === "enable"));
  return fc.record({ some: fc.subarray(optional), ring: fc.subarray(rings) }).chain(({ some, ring }) => {
    const entries: OrderEntry[] = [...required, ...some, ["addr", ...ring]];
    return fc.shuffledSubarray(entries, { minLength: entries.length });
  });
}

/** What only a vhost-user back-end can lack. */
const OF_VHOST_USER = /config|mq|memory-slots|reply-ack|backend-req|protocol-features/;

function refusals({ transport, enables }: Frame): fc.Arbitrary<readonly Refusal[]> {
  const conditions = CONDITIONS.filter(
    (each) => transport === "vhost-user" || !OF_VHOST_USER.test(each),
  ).filter((each) => enables !== "nothing" || each !== "device-lacks-iotlb-bit");
  const refusal = fc
    .record({
      when: fc.subarray(conditions, { minLength: 1 }),
      says: text,
      at: fc.constantFrom<Refusal["at"]>("initialization", "start"),
    })
    .filter(({ when }) => !(when.includes("device-offers-33") && when.includes("device-lacks-33")))
    .map((each): Refusal => (each.when.includes("guest-acknowledged-33") ? { ...each, at: "start" } : each));
  return fc.array(refusal, { maxLength: 3 });
}

function vmmIn(frame: Frame): fc.Arbitrary<VmmProfile> {
  const { transport, viommu, protectedMemory, channel } = frame;
  const isKernel = transport === "kernel";
  const needed = channel === "never" ? 0n : mask(PROTOCOL_F.BACKEND_REQ);
  const rest = fc.record({
    offer: offers(frame),
    acknowledge: acknowledgements(frame),
    asksDevice: fc.constantFrom<VmmProfile["asksDevice"]>("before-guest", "after-guest"),
    protocolFeatures: isKernel ? fc.constant(0n) : word.map((each) => each | needed),
    backendFeatures: isKernel ? word : fc.constant(0n),
    order: orders(frame),
    queues: fc.constantFrom<2 | 3>(2, 3),
    earlyRings: fc.subarray<RingStep>(["num", "base", "kick", "call", "err"]),
    needReply: fc.subarray<Step>(isKernel ? [] : ["memory", "addr", "enable"]),
    memory: fc.constantFrom<VmmProfile["memory"]>("slots", "table"),
    resetsDevice: isKernel ? fc.constant(false) : fc.boolean(),
    configFlags: fc.constantFrom<0 | 1>(0, 1),
    iotlb: iotlbs(frame),
    ringAddresses: fc.constantFrom<VmmProfile["ringAddresses"]>("user", "guest-physical"),
    refuses: refusals(frame),
  });
  const machine = { viommu, protectedMemory };
  return fc
    .tuple(head, rest)
    .map(([head, rest]) => ({ kind: "vmm", ...head, ...rest, transport, machine, backendChannel: channel }));
}

export const vmms: fc.Arbitrary<VmmProfile> = frames.chain(vmmIn);
