/** What a file with `profile: vmm` may say. The types, and what they stand for: ../vmm-profile.ts. */
import type { Condition, OfferOfBit33, PassingOfBit33, Refusal, VmmProfile } from "../vmm-profile.js";
import { listOf, mapOf, withRules } from "./collections.js";
import { featureBit, featureWord } from "./feature-words.js";
import { HEAD, TRANSPORT } from "./head-schema.js";
import { choice, flag, numberChoice, text } from "./scalars.js";
import { ORDER, RING_STEP_LIST, STEP_LIST } from "./steps.js";
import { VMM_RULES } from "./vmm-rules.js";

const OFFER = mapOf<VmmProfile["offer"]>({
  passed: {
    help: "The bits that the guest gets if the device has them; 30 and 33 apart.",
    shape: featureWord("virtio"),
  },
  own: {
    help: "The bits that the guest gets whatever the device says.",
    shape: featureWord("virtio"),
    optional: { meaning: "none", value: 0n },
  },
  bit33: {
    help: "Who decides whether the guest is offered bit 33, ACCESS_PLATFORM.",
    shape: choice<OfferOfBit33>({
      "by-option": "The option of the VMM's user, whatever the device says (QEMU `iommu_platform=on`).",
      "if-protected": "Memory is protected, whatever the device says.",
      "if-protected-and-offered": "Memory is protected, and the device offers it.",
      "as-offered": "The device.",
      always: "It is offered whatever anybody says.",
      never: "It is never offered.",
    }),
  },
});

const ACKNOWLEDGE = mapOf<VmmProfile["acknowledge"]>({
  maskedByDevice: {
    help: "What the guest acknowledged is cut down to what the device offered, bit 33 apart.",
    shape: flag(),
  },
  adds: {
    help: "The bits that the device is told whatever the guest said.",
    shape: featureWord("virtio"),
    optional: { meaning: "none", value: 0n },
  },
  masks: {
    help: "The bits that the device is never told.",
    shape: featureWord("virtio"),
    optional: { meaning: "none", value: 0n },
  },
  bit33: {
    help: "What becomes of bit 33 that the guest acknowledged, on its way to the device.",
    shape: choice<PassingOfBit33>({
      always: "It is passed on, whether the device offered it or not.",
      "if-offered": "It is passed on if the device offered it.",
      "behind-viommu":
        "It is passed on behind a vIOMMU (offered by the device or not), and masked otherwise.",
      never: "It is masked.",
    }),
  },
});

const IOTLB = mapOf<VmmProfile["iotlb"]>({
  serves: {
    help: "It translates: puts the driver's addresses into the rings as they are, answers a MISS, and sends INVALIDATE.",
    shape: flag(),
  },
  translates: {
    help: "When it translates, if it does at all.",
    shape: choice<VmmProfile["iotlb"]["translates"]>({
      "behind-viommu": "It has a vIOMMU, and the device is to be used through the DMA API.",
      "with-iommu-platform": "The device is to be used through the DMA API: that is enough.",
    }),
    optional: { meaning: "`behind-viommu`", value: "behind-viommu" },
  },
  enables: {
    help: "How it tells the device to translate, beside bit 33.",
    shape: choice<VmmProfile["iotlb"]["enables"]>({
      nothing: "Bit 33 is all there is.",
      "own-bit": "A feature bit of its own, `enables-bit` (proposed).",
      "explicit-protocol-feature":
        "A vhost-user protocol feature of its own, `enables-bit` (docs/explicit-iotlb.md).",
    }),
    optional: { meaning: "`nothing`", value: "nothing" },
  },
  enablesBit: {
    help: "The number of that bit, as `bit 62`.",
    shape: featureBit("protocol", "virtio"),
    optional: { meaning: "no such bit", value: undefined },
  },
  invalidates: {
    help: "What of the guest's unmapping reaches the device.",
    shape: choice<VmmProfile["iotlb"]["invalidates"]>({
      always: "All of it.",
      "strict-only": "What the guest unmaps at once; what it unmaps later and together is lost.",
      never: "Nothing.",
    }),
  },
  unmappedUsedRing: {
    help: "What becomes of the start where the step `used-rings` maps nothing: the guest has not, or the device refuses.",
    shape: choice<VmmProfile["iotlb"]["unmappedUsedRing"]>({
      ignored: "It goes on, and the device finds out.",
      fails: "It ends: rings that were enabled are disabled, and a kernel device is not told to run.",
    }),
    optional: { meaning: "`ignored`", value: "ignored" },
  },
  unexpectedMiss: {
    help: "What a MISS does to a VMM that serves none.",
    shape: choice<VmmProfile["iotlb"]["unexpectedMiss"]>({
      ignored: "Nothing: nobody listens, or nobody answers.",
      refused: "It is answered with an error.",
      dies: "The VMM's process ends.",
    }),
  },
});

const CONDITION = choice<Condition>({
  viommu: "There is a vIOMMU in front of the device.",
  "iommu-platform": "The device is to be used through the DMA API.",
  "protected-memory": "The guest's memory is protected.",
  "guest-acknowledged-33": "The guest acknowledged bit 33; known at the start only.",
  "device-offers-33": "The device offers bit 33.",
  "device-lacks-33": "The device does not offer bit 33.",
  "device-lacks-config": "The back-end does not offer CONFIG.",
  "device-lacks-mq": "The back-end does not offer MQ.",
  "device-lacks-memory-slots": "The back-end does not offer CONFIGURE_MEM_SLOTS.",
  "device-lacks-reply-ack": "The back-end does not offer REPLY_ACK.",
  "device-lacks-backend-req": "The back-end does not offer BACKEND_REQ.",
  "device-lacks-iotlb-bit": "The device does not offer the bit of `iotlb.enables-bit`.",
  "device-lacks-protocol-features": "The back-end has no protocol features, not even bit 30.",
});

const REFUSAL = mapOf<Refusal>({
  when: {
    help: "What has to hold, all of it.",
    shape: listOf(CONDITION, { notation: "a list of conditions, one at least", least: 1, flow: true }),
  },
  says: { help: "In the VMM's words, as its user would see them.", shape: text() },
  at: {
    help: "When it says so.",
    shape: choice<Refusal["at"]>({
      initialization: "Before the guest boots.",
      start: "Once the guest's driver is ready.",
    }),
  },
});

export const VMM_SCHEMA = withRules(
  mapOf<VmmProfile>({
    kind: {
      key: "profile",
      help: "What the file describes.",
      shape: choice<"vmm">({ vmm: "A VMM's side of vhost." }),
    },
    ...HEAD,
    transport: { help: "How it reaches the device.", shape: TRANSPORT },
    machine: {
      help: "What its user can configure; a guest that needs more does not apply.",
      shape: mapOf<VmmProfile["machine"]>({
        viommu: { help: "A vIOMMU in front of the device.", shape: flag() },
        protectedMemory: {
          help: "Memory that is private but for what the guest shares.",
          shape: flag(),
        },
      }),
    },
    offer: { help: "What the guest is offered.", shape: OFFER },
    acknowledge: { help: "What the device is told of the guest's acknowledgement.", shape: ACKNOWLEDGE },
    asksDevice: {
      help: "When VHOST_GET_FEATURES is asked.",
      shape: choice<VmmProfile["asksDevice"]>({
        "before-guest": "Before the guest is offered anything, so that the device can restrict it.",
        "after-guest": "After the guest has acknowledged: it may hold bits that the device lacks.",
      }),
      optional: { meaning: "`before-guest`", value: "before-guest" },
    },
    protocolFeatures: {
      help: "The vhost-user protocol features that it takes if they are offered.",
      shape: featureWord("protocol"),
      optional: { meaning: "none", value: 0n },
    },
    backendFeatures: {
      help: "The vhost backend features that it takes if they are offered, from a kernel device.",
      shape: featureWord("backend"),
      optional: { meaning: "none", value: 0n },
    },
    backendChannel: {
      help: "When the back-end gets a channel of its own, where BACKEND_REQ was negotiated.",
      shape: choice<VmmProfile["backendChannel"]>({
        never: "Never.",
        "at-initialization": "Before the guest boots.",
        "in-order": "At the step `channel` of `order`.",
      }),
      optional: { meaning: "`never`", value: "never" },
    },
    order: { help: "The calls that start the device.", shape: ORDER },
    queues: {
      help: "How many of the three queues the device gets; the event queue is the last.",
      shape: numberChoice([2, 3], { 2: "The VMM keeps the event queue.", 3: "All of them." }),
    },
    earlyRings: {
      help: "Ring steps that are done before the guest boots, for each queue, with eventfds of the VMM's own.",
      shape: RING_STEP_LIST,
      optional: { meaning: "none", value: [] },
    },
    needReply: {
      help:
        "Vhost-user: the steps whose messages ask for an acknowledgement, where REPLY_ACK was negotiated. " +
        "IOTLB messages have an answer anyway.",
      shape: STEP_LIST,
      optional: { meaning: "none", value: [] },
    },
    memory: {
      help: "Vhost-user: how it shares memory.",
      shape: choice<VmmProfile["memory"]>({
        slots: "ADD_MEM_REG for each slot, where CONFIGURE_MEM_SLOTS was negotiated.",
        table: "SET_MEM_TABLE, always.",
      }),
      optional: { meaning: "`slots`", value: "slots" },
    },
    resetsDevice: {
      help: "Vhost-user: sends RESET_DEVICE before the guest boots and after the stop, where RESET_DEVICE was negotiated.",
      shape: flag(),
      optional: { meaning: "`false`", value: false },
    },
    configFlags: {
      help: "The `flags` of GET_CONFIG.",
      shape: numberChoice([0, 1], {
        0: "As QEMU has it.",
        1: "As rust-vmm, crosvm and cloud-hypervisor have it.",
      }),
      optional: { meaning: "`0`", value: 0 },
    },
    iotlb: { help: "Whether it serves an IOTLB.", shape: IOTLB },
    ringAddresses: {
      help: "What the ring addresses are without translation.",
      shape: choice<VmmProfile["ringAddresses"]>({
        user: "Addresses of the VMM's process.",
        "guest-physical": "Guest-physical addresses: it does not convert them.",
      }),
      optional: { meaning: "`user`", value: "user" },
    },
    refuses: {
      help: "What it does not do: it says so and does not start the device.",
      shape: listOf(REFUSAL, { notation: "a list of refusals" }),
      optional: { meaning: "it refuses nothing", value: [] },
    },
  }),
  VMM_RULES,
);
