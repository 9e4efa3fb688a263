import assert from "node:assert/strict";
import { test } from "node:test";
import { BACKEND_FEATURES } from "./backend-features.js";
import {
  DEFAULT_EXPLICIT_IOTLB_BIT,
  explicitIotlbBitProblem,
  PROTOCOL_F,
  PROTOCOL_FEATURES,
} from "./protocol-features.js";
import type { FeatureTable } from "./record.js";
import {
  backendFeatures,
  DEVICE_TYPES,
  describeFeatures,
  describeProtocolFeatures,
  featureName,
  protocolFeature,
  protocolFeatures,
  virtioFeature,
  virtioFeatures,
} from "./registry.js";
import { F, TRANSPORT_FEATURES } from "./transport-features.js";
import { VSOCK_F, VSOCK_FEATURES } from "./vsock-features.js";

const tables: readonly (readonly [string, readonly FeatureTable[]])[] = [
  ["virtio", [TRANSPORT_FEATURES, VSOCK_FEATURES]],
  ["protocol", [PROTOCOL_FEATURES]],
  ["backend", [BACKEND_FEATURES]],
];

for (const [name, parts] of tables) {
  test(`no two ${name} features share a number, and each states its source and a meaning`, () => {
    const records = parts.flatMap((table) => Object.values(table));
    assert.equal(new Set(records.map((record) => record.bit)).size, records.length);
    for (const record of records) {
      assert.ok(record.bit >= 0 && record.bit < 64);
      assert.notEqual(record.source, "");
      assert.ok(
        record.toGuest ?? record.toVhostKernel ?? record.toVhostUser,
        `bit ${record.bit} has no meaning`,
      );
    }
  });
}

test("the numbers that decide the most are the specifications'", () => {
  assert.deepEqual(
    [F.LOG_ALL, F.INDIRECT_DESC, F.EVENT_IDX, F.PROTOCOL_FEATURES, F.VERSION_1, F.ACCESS_PLATFORM],
    [26, 28, 29, 30, 32, 33],
  );
  assert.deepEqual([F.RING_PACKED, F.IN_ORDER, F.RING_RESET, F.SUSPEND], [34, 35, 40, 43]);
  assert.deepEqual([VSOCK_F.VSOCK_STREAM, VSOCK_F.VSOCK_SEQPACKET], [0, 1]);
  assert.deepEqual([PROTOCOL_F.REPLY_ACK, PROTOCOL_F.BACKEND_REQ, PROTOCOL_F.CONFIG], [3, 5, 9]);
  assert.deepEqual([PROTOCOL_F.GPA_ADDRESSES, PROTOCOL_F.SHMEM], [21, 22]);
});

test("bits of other device types have names, where a device type has bits of its own", () => {
  for (const type of DEVICE_TYPES) {
    const own = Array.from({ length: 64 }, (_, bit) => bit).filter(
      (bit) => featureName(bit) === `bit${bit}` && featureName(bit, type) !== `bit${bit}`,
    );
    // VIRTIO, Feature Bits: 0 to 23 and 50 to 127 are the device type's.
    assert.ok(
      own.every((bit) => bit <= 23 || bit >= 50),
      `${type}: ${own}`,
    );
    const names = own.map((bit) => featureName(bit, type));
    assert.equal(new Set(names).size, names.length, type);
  }
  assert.equal(
    describeFeatures(0x1_0040_8020n, "net"),
    "0x100408020 [NET_MAC NET_MRG_RXBUF NET_MQ VERSION_1]",
  );
  assert.equal(describeFeatures(0x1_0000_2200n, "blk"), "0x100002200 [BLK_FLUSH BLK_DISCARD VERSION_1]");
  assert.equal(describeFeatures(0x1_0000_0001n, "rng"), "0x100000001 [bit0 VERSION_1]");
});

test("protocol features 0 to 23 are all known", () => {
  for (let bit = 0; bit <= 23; bit++) assert.notEqual(protocolFeature(bit), undefined, `bit ${bit}`);
  assert.equal(protocolFeature(24), undefined);
});

test("every bit of the virtio word says what it means to the guest, to vhost and to vhost-user", () => {
  for (const { name, toGuest, toVhostKernel, toVhostUser } of virtioFeatures("vsock")) {
    for (const meaning of [toGuest, toVhostKernel, toVhostUser]) assert.ok(meaning, name);
  }
});

test("a bit knows the whole name of its constant, also where the prefix is another one", () => {
  assert.equal(virtioFeature(33)?.symbol, "VIRTIO_F_ACCESS_PLATFORM");
  assert.equal(virtioFeature(26)?.symbol, "VHOST_F_LOG_ALL");
  assert.equal(virtioFeature(30)?.symbol, "VHOST_USER_F_PROTOCOL_FEATURES");
  assert.equal(virtioFeature(1, "vsock")?.symbol, "VIRTIO_VSOCK_F_SEQPACKET");
  assert.equal(protocolFeature(5)?.symbol, "VHOST_USER_PROTOCOL_F_BACKEND_REQ");
  assert.equal(protocolFeature(62)?.symbol, "VHOST_USER_PROTOCOL_F_IOTLB");
  assert.equal(backendFeatures()[0].symbol, "VHOST_BACKEND_F_IOTLB_MSG_V2");
});

test("bit 33 says that its meanings part", () => {
  assert.match(virtioFeature(33)?.disagreement ?? "", /restricted DMA.*-EFAULT/);
});

test("bits 28 to 43 of the virtio word are all known but the unassigned 31", () => {
  const unknown = Array.from({ length: 16 }, (_, n) => 28 + n).filter(
    (bit) => virtioFeature(bit) === undefined,
  );
  assert.deepEqual(unknown, [31]);
});

test("bit 33 is found by its present name and remembers its former one", () => {
  const record = virtioFeature(33);
  assert.equal(record?.name, "ACCESS_PLATFORM");
  assert.deepEqual(record?.formerNames, ["IOMMU_PLATFORM"]);
});

// SET_FEATURES as a QEMU 7.2 sent it for a vsock device, plain and behind a vIOMMU.
test("feature words print as names, lowest bit first", () => {
  assert.equal(
    describeFeatures(0x10170000002n, "vsock"),
    "0x10170000002 [VSOCK_SEQPACKET INDIRECT_DESC EVENT_IDX PROTOCOL_FEATURES VERSION_1 RING_RESET]",
  );
  assert.equal(
    describeFeatures(0x10370000002n, "vsock"),
    "0x10370000002 [VSOCK_SEQPACKET INDIRECT_DESC EVENT_IDX PROTOCOL_FEATURES VERSION_1 ACCESS_PLATFORM RING_RESET]",
  );
  assert.equal(describeFeatures(0n), "0x0 []");
});

test("a bit without a name prints its number, device bits too when the device type is unknown", () => {
  assert.equal(describeFeatures(0x8000000000000002n), "0x8000000000000002 [bit1 bit63]");
});

test("protocol features print as names, the experimental one wherever it is configured", () => {
  assert.equal(describeProtocolFeatures(0x2bn), "0x2b [MQ LOG_SHMFD REPLY_ACK BACKEND_REQ]");
  assert.equal(describeProtocolFeatures(0x4000000000000008n), "0x4000000000000008 [REPLY_ACK IOTLB]");
  assert.equal(describeProtocolFeatures(0x40000000n, 30), "0x40000000 [IOTLB]");
  assert.equal(describeProtocolFeatures(0x4000000000000000n, 30), "0x4000000000000000 [bit62]");
});

test("the explicit IOTLB may sit at any free protocol bit and at no other", () => {
  assert.equal(explicitIotlbBitProblem(DEFAULT_EXPLICIT_IOTLB_BIT), undefined);
  assert.equal(explicitIotlbBitProblem(24), undefined);
  assert.match(explicitIotlbBitProblem(3) ?? "", /REPLY_ACK/);
  for (const bit of [-1, 64, 1.5, Number.NaN]) assert.match(explicitIotlbBitProblem(bit) ?? "", /0 to 63/);
});

test("the lists come in the order of the bits", () => {
  const bits = virtioFeatures("vsock").map((record) => record.bit);
  assert.deepEqual(
    bits,
    [...bits].sort((a, b) => a - b),
  );
  assert.equal(protocolFeatures(50).at(-1)?.bit, 50);
});
