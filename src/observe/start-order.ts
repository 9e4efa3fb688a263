/**
 * In which order a front-end starts the device: its messages as the steps of a VMM profile, and the shortest list that
 * gives this sequence again. Must not know what the messages carry beyond their queue.
 */
import type { OrderEntry, RingStep, SetupStep, Step } from "../profiles/vmm-profile.js";
import { RING_STEPS } from "../profiles/vmm-profile.js";
import type { FrontendMessageName, Message } from "../vhost/wire/index.js";

const STEPS: Readonly<Partial<Record<FrontendMessageName, Step>>> = {
  SET_FEATURES: "features",
  SET_STATUS: "status",
  SET_MEM_TABLE: "memory",
  ADD_MEM_REG: "memory",
  SET_BACKEND_REQ_FD: "channel",
  SET_VRING_NUM: "num",
  SET_VRING_BASE: "base",
  SET_VRING_ADDR: "addr",
  SET_VRING_KICK: "kick",
  SET_VRING_CALL: "call",
  SET_VRING_ERR: "err",
  SET_VRING_ENABLE: "enable",
};

/** A step as it was seen; `queue` for ring steps. */
export interface SeenStep {
  readonly step: Step;
  readonly queue: number | undefined;
}

/** The step that a message of the front-end is, if it is one. */
export function stepOf({ record, payload }: Message): SeenStep | undefined {
  const step = STEPS[record.name as FrontendMessageName];
  if (step === undefined) return undefined;
  const isRing = "index" in payload && isRingStep(step);
  return { step, queue: isRing ? payload.index : undefined };
}

export function isRingStep(step: Step): step is RingStep {
  return (RING_STEPS as readonly Step[]).includes(step);
}

/**
 * Folds a sequence: equal steps in a row become one, and ring steps that come queue by queue become one list. A list is
 * taken as long as it can be: all that is said of a first queue before another one's turn.
 */
export function orderOf(seen: readonly SeenStep[]): OrderEntry[] {
  const order: OrderEntry[] = [];
  for (let at = 0; at < seen.length; ) {
    const { step } = seen[at];
    if (isRingStep(step)) {
      const steps = stepsOfOneQueue(seen, at);
      order.push(steps);
      at = endOfQueues(seen, at, steps);
    } else {
      if (order.at(-1) !== step) order.push(step as SetupStep);
      at++;
    }
  }
  return order;
}

/** The ring steps from `at` on that are about the same queue; a step that comes again begins something new. */
function stepsOfOneQueue(seen: readonly SeenStep[], at: number): RingStep[] {
  const steps: RingStep[] = [];
  for (let next = at; next < seen.length; next++) {
    const { step, queue } = seen[next];
    if (!isRingStep(step) || queue !== seen[at].queue || steps.includes(step)) break;
    steps.push(step);
  }
  return steps;
}

/** Behind the last queue, in a row, for which the same steps were done. */
function endOfQueues(seen: readonly SeenStep[], at: number, steps: readonly RingStep[]): number {
  let end = at;
  const queues = new Set<number>();
  for (;;) {
    const queue = seen[end]?.queue;
    if (queue === undefined || queues.has(queue)) return end;
    const isSame = steps.every((step, n) => seen[end + n]?.step === step && seen[end + n]?.queue === queue);
    if (!isSame) return end;
    queues.add(queue);
    end += steps.length;
  }
}
