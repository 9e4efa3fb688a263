import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { F, has, mask, maskOf, VSOCK_F } from "../virtio/index.js";
import { DMA_KINDS } from "./dma.js";
import { acknowledge, chooseFeatures } from "./features.js";

const BASE = maskOf(F.VERSION_1, F.EVENT_IDX, F.INDIRECT_DESC);
const WITH_33 = BASE | mask(F.ACCESS_PLATFORM);

describe("what a guest acknowledges", () => {
  for (const kind of DMA_KINDS.filter((kind) => kind !== "direct"))
    it(`a guest with a DMA API takes bit 33 when it is offered: ${kind}`, () => {
      const choice = chooseFeatures(kind, WITH_33);
      assert.ok(choice.ok && has(choice.acknowledged, F.ACCESS_PLATFORM));
    });

  it("a guest without a DMA API leaves bit 33 alone", () => {
    const choice = chooseFeatures("direct", WITH_33);
    assert.ok(choice.ok && choice.acknowledged === BASE);
  });

  it("a guest with restricted DMA goes around its pool when bit 33 is not offered, as Linux does", () => {
    const choice = chooseFeatures("restricted", BASE);
    assert.ok(choice.ok && choice.acknowledged === BASE);
  });

  it("a protected guest refuses a device without bit 33", () => {
    const choice = chooseFeatures("protected", BASE);
    assert.ok(!choice.ok);
    assert.equal(choice.reason, "the driver requires ACCESS_PLATFORM (33), which it is not offered");
  });

  it("no guest takes what it does not implement, and none a legacy device", () => {
    const choice = chooseFeatures("viommu", WITH_33 | mask(F.NOTIFICATION_DATA) | mask(F.RING_RESET) | 0xffn);
    assert.ok(choice.ok && choice.acknowledged === (WITH_33 | mask(VSOCK_F.VSOCK_SEQPACKET)));
    assert.ok(!chooseFeatures("direct", mask(F.EVENT_IDX)).ok);
  });

  it("a guest of a profile takes what it knows, and misses each bit that it requires by name", () => {
    const words = { knows: WITH_33, requires: maskOf(F.VERSION_1, F.ACCESS_PLATFORM) };
    const all = acknowledge(words, WITH_33 | mask(F.RING_PACKED) | mask(F.IN_ORDER));
    assert.ok(all.ok && all.acknowledged === WITH_33);
    const none = acknowledge(words, mask(F.EVENT_IDX));
    assert.ok(!none.ok);
    assert.match(none.reason, /^the driver requires VERSION_1 \(32\) and ACCESS_PLATFORM \(33\), /);
  });

  it("bits can be taken from a guest, as an older kernel lacks them", () => {
    const choice = chooseFeatures("direct", BASE, { unknownBits: mask(F.EVENT_IDX) });
    assert.ok(choice.ok && !has(choice.acknowledged, F.EVENT_IDX));
  });
});
