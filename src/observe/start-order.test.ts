import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { OrderEntry, Step } from "../profiles/vmm-profile.js";
import { isRingStep, orderOf, type SeenStep } from "./start-order.js";

/** What a VMM does that follows an order, as its player does. */
function played(order: readonly OrderEntry[], queues: number): SeenStep[] {
  return order.flatMap((entry): SeenStep[] =>
    typeof entry === "string"
      ? [{ step: entry, queue: undefined }]
      : Array.from({ length: queues }, (_, queue) => entry.map((step) => ({ step, queue }))).flat(),
  );
}

/** "features num0 num1". */
function steps(text: string): SeenStep[] {
  return text.split(" ").map((word) => {
    const step = word.replace(/\d$/, "") as Step;
    return { step, queue: isRingStep(step) ? Number(word.at(-1)) : undefined };
  });
}

describe("the order of a start", () => {
  const orders: readonly (readonly OrderEntry[])[] = [
    [
      ["call"],
      "features",
      "status",
      "memory",
      ["num", "base", "addr", "kick"],
      ["enable"],
      "used-rings",
      ["call"],
    ],
    ["features", "memory", ["num", "addr", "base", "call", "kick", "enable"]],
    ["memory", ["num"], ["addr"], ["kick"], "features", ["enable"], "channel"],
  ];
  for (const order of orders) {
    it(`is found again from its messages: ${JSON.stringify(order)}`, () => {
      for (const queues of [2, 3]) assert.deepEqual(orderOf(played(order, queues)), order);
    });
  }

  it("takes several memory regions in a row for one step", () => {
    assert.deepEqual(orderOf(steps("features memory memory num0 num1")), ["features", "memory", ["num"]]);
  });

  it("does not depend on which queue comes first", () => {
    assert.deepEqual(orderOf(steps("call1 call0 features")), [["call"], "features"]);
  });

  it("keeps apart what is not done for each queue", () => {
    assert.deepEqual(orderOf(steps("num0 addr0 num1")), [["num", "addr"], ["num"]]);
  });
});
