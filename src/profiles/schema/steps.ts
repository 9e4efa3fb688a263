/**
 * The order in which a VMM calls, as a list: `[features, memory, [num, addr, kick], running]`. A word is done once, a
 * list in brackets for each queue. The words and what they stand for: ../vmm-profile.ts. Must not know who calls.
 */
import { type Node, Scalar } from "yaml";
import {
  type OrderEntry,
  RING_STEPS,
  type RingStep,
  SETUP_STEPS,
  type SetupStep,
  type Step,
} from "../vmm-profile.js";
import { listOf } from "./collections.js";
import { choice, readWord } from "./scalars.js";
import type { Shape } from "./shape.js";

const SETUP_MEANINGS: Readonly<Record<SetupStep, string>> = {
  features: "SET_FEATURES.",
  "backend-features": "Kernel: VHOST_SET_BACKEND_FEATURES.",
  status: "SET_STATUS with FEATURES_OK, where STATUS was negotiated.",
  memory: "SET_MEM_TABLE, or ADD_MEM_REG for each slot.",
  cid: "Kernel: VHOST_VSOCK_SET_GUEST_CID.",
  channel: "SET_BACKEND_REQ_FD, with `backend-channel: in-order`.",
  "used-rings": "IOTLB UPDATEs for the used rings, if the VMM translates.",
  running: "Kernel: VHOST_VSOCK_SET_RUNNING.",
};

const RING_MEANINGS: Readonly<Record<RingStep, string>> = {
  num: "SET_VRING_NUM.",
  base: "SET_VRING_BASE.",
  addr: "SET_VRING_ADDR.",
  kick: "SET_VRING_KICK.",
  call: "SET_VRING_CALL.",
  err: "SET_VRING_ERR.",
  enable: "SET_VRING_ENABLE.",
};

/** Ring steps, each of them done for one queue. */
export const RING_STEP_LIST: Shape<readonly RingStep[]> = {
  ...listOf(choice<RingStep>(RING_MEANINGS), { notation: "a list of ring steps", flow: true }),
  description: { kind: "value", notation: "a list of ring steps, as in `order`" },
};

/** Steps of either kind. */
export const STEP_LIST: Shape<readonly Step[]> = {
  ...listOf(choice<Step>({ ...SETUP_MEANINGS, ...RING_MEANINGS }), {
    notation: "a list of steps",
    flow: true,
  }),
  description: { kind: "value", notation: "a list of steps, as in `order`" },
};

const ENTRY: Shape<OrderEntry> = {
  description: {
    kind: "choice",
    meanings: {
      ...SETUP_MEANINGS,
      ...Object.fromEntries(Object.entries(RING_MEANINGS).map(([step, meaning]) => [`[${step}]`, meaning])),
    },
  },
  read(source): OrderEntry {
    const items = source.file.items(source.node);
    if (items === undefined) {
      const word = readWord<Step>(source, [...SETUP_STEPS, ...RING_STEPS]);
      if (isSetupStep(word)) return word;
      return source.refuse("value-malformed", `${word} is done once for each queue; write [${word}]`);
    }
    if (items.length === 0)
      source.refuse("value-missing", "the brackets are empty; write ring steps into them");
    return items.map((node, index) => {
      const child = source.child(String(index + 1), node);
      const word = readWord<Step>(child, [...RING_STEPS, ...SETUP_STEPS]);
      if (!isSetupStep(word)) return word;
      const problem = `${word} is done once, not for each queue; take it out of the brackets`;
      return child.refuse("value-malformed", problem);
    });
  },
  write(entry): Node {
    return typeof entry === "string" ? new Scalar(entry) : RING_STEP_LIST.write(entry);
  },
};

export const ORDER: Shape<readonly OrderEntry[]> = listOf(ENTRY, {
  notation: "a list of steps, and of ring steps in brackets",
  least: 1,
});

function isSetupStep(step: Step): step is SetupStep {
  return SETUP_STEPS.some((each) => each === step);
}
