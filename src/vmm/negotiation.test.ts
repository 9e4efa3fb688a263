import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import type { OfferOfBit33, PassingOfBit33 } from "../profiles/vmm-profile.js";
import { bitsOf, F, has, mask, maskOf, PROTOCOL_F, VSOCK_F, without } from "../virtio/index.js";
import {
  type MachineOptions,
  offerToGuest,
  refusalOf,
  takeProtocolFeatures,
  tellDevice,
  translates,
} from "./negotiation.js";
import { BEHIND_VIOMMU, PLAIN, PROTECTED, vmmLike } from "./vmm-rig.js";

const BIT_33 = mask(F.ACCESS_PLATFORM);
const BASICS = maskOf(F.VERSION_1, F.EVENT_IDX);
const OPTION_ONLY: MachineOptions = { iommuPlatform: true, protectedMemory: false, viommu: false };

describe("what a guest is offered of bit 33", () => {
  type Row = [OfferOfBit33, string, MachineOptions, device33: boolean, isIn: boolean, because: RegExp];
  const rows: Row[] = [
    [
      "by-option",
      "with the option",
      OPTION_ONLY,
      false,
      true,
      /^V offers it because its user's option says so/,
    ],
    ["by-option", "without the option", PLAIN, true, false, /only by its user's option, which is off$/],
    ["if-protected", "protected", PROTECTED, false, true, /because memory is protected; the guest needs it/],
    ["if-protected", "not protected", OPTION_ONLY, true, false, /only where memory is protected$/],
    [
      "if-protected-and-offered",
      "protected",
      PROTECTED,
      true,
      true,
      /is protected and the device offers it$/,
    ],
    [
      "if-protected-and-offered",
      "protected",
      PROTECTED,
      false,
      false,
      /is protected, but V offers only what/,
    ],
    ["if-protected-and-offered", "not protected", PLAIN, true, false, /only where memory is protected$/],
    ["as-offered", "plain", PLAIN, true, true, /^V hands on what the device offers$/],
    [
      "as-offered",
      "protected",
      PROTECTED,
      false,
      false,
      /^V hands on what the device offers, and it does not$/,
    ],
    ["always", "plain", PLAIN, false, true, /^V offers it to every guest/],
    ["never", "protected", PROTECTED, true, false, /^V never offers it$/],
  ];
  for (const [bit33, name, machine, device33, isIn, because] of rows) {
    const device = device33 ? "a device that offers it" : "a device that does not";
    it(`is ${isIn ? "in" : "not in"} the word: ${bit33}, ${name}, ${device}`, () => {
      const profile = vmmLike("qemu-7.2", { program: "V", offer: { bit33 } });
      const offer = offerToGuest(profile, machine, device33 ? BASICS | BIT_33 : BASICS);
      assert.equal(has(offer.features, F.ACCESS_PLATFORM), isIn);
      assert.match(offer.because, because);
    });
  }
});

describe("what a guest is offered beside bit 33", () => {
  const profile = vmmLike("qemu-7.2", {
    offer: { passed: maskOf(F.VERSION_1, F.EVENT_IDX, VSOCK_F.VSOCK_SEQPACKET), own: mask(F.ANY_LAYOUT) },
  });

  it("is what the device has of the passed bits, and the VMM's own", () => {
    const { features } = offerToGuest(profile, PLAIN, maskOf(F.VERSION_1, F.RING_PACKED));
    assert.deepEqual(bitsOf(features), [F.ANY_LAYOUT, F.VERSION_1]);
  });

  it("is the VMM's own bits alone where the device is asked only after the guest", () => {
    assert.deepEqual(bitsOf(offerToGuest(profile, PLAIN, undefined).features), [F.ANY_LAYOUT]);
  });

  it("never has bit 30 in it", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), (word) => {
        const generous = vmmLike("qemu-7.2", { offer: { passed: word, own: word } });
        assert.ok(!has(offerToGuest(generous, PLAIN, word).features, F.PROTOCOL_FEATURES));
      }),
    );
  });
});

describe("what a device is told of an acknowledged bit 33", () => {
  type Row = [PassingOfBit33, string, MachineOptions, device33: boolean, isIn: boolean, because: RegExp];
  const rows: Row[] = [
    [
      "behind-viommu",
      "behind one",
      BEHIND_VIOMMU,
      true,
      true,
      /^passed on .*: a vIOMMU stands in front of the device$/,
    ],
    ["behind-viommu", "behind one", BEHIND_VIOMMU, false, true, /although the device never offered it$/],
    [
      "behind-viommu",
      "without one",
      PROTECTED,
      true,
      false,
      /^masked: no vIOMMU stands in front of the device/,
    ],
    [
      "always",
      "protected",
      PROTECTED,
      true,
      true,
      /^passed on as acknowledged: V takes virtio bits for vhost bits$/,
    ],
    ["always", "protected", PROTECTED, false, true, /vhost bits, although the device never offered it$/],
    ["if-offered", "protected", PROTECTED, true, true, /^passed on as acknowledged: V takes virtio bits/],
    ["if-offered", "protected", PROTECTED, false, false, /^masked: the device does not offer it$/],
    ["never", "protected", PROTECTED, true, false, /^masked: V never tells the device of bit 33$/],
  ];
  for (const [bit33, name, machine, device33, isIn, because] of rows) {
    const device = device33 ? "a device that offers it" : "a device that does not";
    it(`${isIn ? "reaches it" : "does not reach it"}: ${bit33}, ${name}, ${device}`, () => {
      const serves = bit33 === "behind-viommu";
      const profile = vmmLike("qemu-7.2", { program: "V", acknowledge: { bit33 }, iotlb: { serves } });
      const offered = device33 ? BASICS | BIT_33 : BASICS;
      const told = tellDevice(profile, machine, offered, BASICS | BIT_33);
      assert.equal(has(told.features, F.ACCESS_PLATFORM), isIn);
      assert.match(told.because, because);
    });
  }

  it("is explained by translation where the VMM translates", () => {
    const told = tellDevice(
      vmmLike("qemu-4.2", { program: "V" }),
      OPTION_ONLY,
      BASICS | BIT_33,
      BASICS | BIT_33,
    );
    assert.equal(told.because, "passed on as acknowledged: V translates");
  });

  it("is nothing where the guest did not acknowledge it, even if the VMM translates", () => {
    const profile = vmmLike("qemu-7.2", { program: "V" });
    const plain = tellDevice(profile, PLAIN, BASICS | BIT_33, BASICS);
    const skipped = tellDevice(profile, BEHIND_VIOMMU, BASICS | BIT_33, BASICS);
    assert.equal(plain.because, "not told: the guest did not acknowledge it");
    assert.equal(skipped.because, "not told: the guest did not acknowledge it, though V translates");
    assert.ok(!has(plain.features | skipped.features, F.ACCESS_PLATFORM));
  });
});

describe("what a device is told beside bit 33", () => {
  it("is what the guest acknowledged, offered or not, unless the profile masks it by the device's offer", () => {
    const unmasked = vmmLike("qemu-7.2");
    const masked = vmmLike("qemu-7.2", { acknowledge: { maskedByDevice: true } });
    const acknowledged = BASICS | mask(F.RING_PACKED);
    assert.equal(tellDevice(unmasked, PLAIN, BASICS, acknowledged).features, acknowledged);
    assert.equal(tellDevice(masked, PLAIN, BASICS, acknowledged).features, BASICS);
  });

  it("has the bits that the VMM adds and lacks those that it masks", () => {
    const adds = mask(F.LOG_ALL);
    const profile = vmmLike("qemu-7.2", { acknowledge: { adds, masks: mask(F.EVENT_IDX) } });
    const { features } = tellDevice(profile, PLAIN, BASICS, BASICS);
    assert.deepEqual(bitsOf(features), [F.LOG_ALL, F.VERSION_1]);
  });

  it("has bit 30 over vhost-user if the back-end offered it, which no guest can say", () => {
    const offered = BASICS | mask(F.PROTOCOL_FEATURES);
    const user = tellDevice(vmmLike("qemu-7.2"), PLAIN, offered, BASICS);
    const kernel = tellDevice(vmmLike("qemu-7.2-kernel"), PLAIN, offered, BASICS);
    assert.ok(has(user.features, F.PROTOCOL_FEATURES));
    assert.equal(kernel.features, without(kernel.features, F.PROTOCOL_FEATURES));
  });

  it("has a bit of the IOTLB's own where the VMM translates and the device knows the bit", () => {
    const profile = vmmLike("fix-own-bit-vmm");
    const own = mask(profile.iotlb.enablesBit ?? 0);
    assert.equal(tellDevice(profile, BEHIND_VIOMMU, BASICS | own, BASICS).features, BASICS | own);
    assert.equal(tellDevice(profile, PROTECTED, BASICS | own, BASICS).features, BASICS);
    assert.equal(tellDevice(profile, BEHIND_VIOMMU, BASICS, BASICS).features, BASICS);
  });
});

describe("whether a VMM translates", () => {
  it("goes by the vIOMMU and the option together, or by the option alone, or not at all", () => {
    const table = [PLAIN, OPTION_ONLY, { ...PLAIN, viommu: true }, BEHIND_VIOMMU].map((machine) =>
      ["qemu-5.0", "qemu-4.2", "crosvm-2022-07"].map((name) => translates(vmmLike(name), machine)),
    );
    assert.deepEqual(table, [
      [false, false, false],
      [false, true, false],
      [false, false, false],
      [true, true, false],
    ]);
  });
});

describe("the protocol features that a front-end takes", () => {
  it("are those that it knows", () => {
    const offered = maskOf(PROTOCOL_F.MQ, PROTOCOL_F.CONFIG, PROTOCOL_F.DEVICE_STATE);
    const taken = takeProtocolFeatures(vmmLike("qemu-7.2"), PLAIN, offered);
    assert.deepEqual(bitsOf(taken), [PROTOCOL_F.MQ, PROTOCOL_F.CONFIG]);
  });

  it("have the explicit IOTLB among them if it is offered and the VMM translates", () => {
    const draft = vmmLike("bit33-draft");
    const bit = mask(draft.iotlb.enablesBit ?? 0);
    assert.equal(takeProtocolFeatures(draft, BEHIND_VIOMMU, bit), bit);
    assert.equal(takeProtocolFeatures(draft, PROTECTED, bit), 0n);
    assert.equal(takeProtocolFeatures(draft, BEHIND_VIOMMU, 0n), 0n);
    assert.equal(takeProtocolFeatures(vmmLike("qemu-10.0"), BEHIND_VIOMMU, bit), 0n);
  });
});

describe("a refusal", () => {
  const lacking = {
    features: BASICS | BIT_33 | mask(F.PROTOCOL_FEATURES),
    protocolFeatures: mask(PROTOCOL_F.CONFIG),
  };

  it("needs all of its conditions", () => {
    const qemu = vmmLike("qemu-7.2");
    assert.match(refusalOf(qemu, PLAIN, lacking, undefined)?.says ?? "", /^IOMMU support requires reply-ack/);
    const harmless = { ...lacking, features: without(lacking.features, F.ACCESS_PLATFORM) };
    assert.equal(refusalOf(qemu, PLAIN, harmless, undefined), undefined);
  });

  it("comes at its time: what the guest acknowledged is known at the start only", () => {
    const crosvm = vmmLike("crosvm-2022-08");
    const offer = { features: BASICS | BIT_33, protocolFeatures: 0n };
    assert.equal(refusalOf(crosvm, BEHIND_VIOMMU, offer, undefined), undefined);
    assert.equal(refusalOf(crosvm, BEHIND_VIOMMU, offer, BASICS), undefined);
    assert.equal(refusalOf(crosvm, PROTECTED, offer, BASICS | BIT_33), undefined);
    assert.match(refusalOf(crosvm, BEHIND_VIOMMU, offer, BIT_33)?.says ?? "", /^Vhost IOTLB required/);
  });

  it("can be the lack of the IOTLB's own bit, in the word in which it would be", () => {
    const draft = vmmLike("bit33-draft");
    const [iotlbBit] = [draft.iotlb.enablesBit ?? 0];
    const able = maskOf(PROTOCOL_F.BACKEND_REQ, PROTOCOL_F.REPLY_ACK, PROTOCOL_F.CONFIG);
    const refusal = (features: bigint, protocolFeatures: bigint) =>
      refusalOf(draft, BEHIND_VIOMMU, { features, protocolFeatures }, undefined);
    assert.match(refusal(BASICS, able)?.says ?? "", /needs a device that translates/);
    assert.equal(refusal(BASICS, able | mask(iotlbBit)), undefined);
    assert.equal(refusal(BASICS | BIT_33, able), undefined);
  });
});
