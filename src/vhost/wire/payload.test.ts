import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MAX_TABLE_REGIONS } from "./limits.js";
import {
  decodePayload,
  encodePayload,
  IOTLB_TYPE,
  isFault,
  type Payload,
  type PayloadKind,
} from "./payload.js";
import { PAYLOAD_ARBITRARIES, PAYLOAD_KINDS } from "./payload-arbitraries.fixture.js";
import { naiveEncode } from "./payload-naive.fixture.js";

/** Decodes and expects a fault. */
function faultOf(kind: PayloadKind, bytes: Uint8Array): { code: string; offset: number; message: string } {
  const outcome: ReturnType<typeof decodePayload> = decodePayload(kind, bytes);
  assert.ok(isFault(outcome), `${kind} was decoded: ${JSON.stringify(outcome, (_, v) => String(v))}`);
  return { code: outcome.fault, offset: outcome.offset, message: outcome.message };
}

for (const kind of PAYLOAD_KINDS) {
  const arbitrary: fc.Arbitrary<Payload> = PAYLOAD_ARBITRARIES[kind];

  test(`a ${kind} payload decodes to what was encoded`, () => {
    fc.assert(
      fc.property(arbitrary, (payload) =>
        assert.deepEqual(decodePayload(kind, encodePayload(payload)), payload),
      ),
    );
  });

  test(`a ${kind} payload is the bytes that are written by hand`, () => {
    fc.assert(
      fc.property(arbitrary, (payload) => assert.deepEqual(encodePayload(payload), naiveEncode(payload))),
    );
  });

  test(`a ${kind} payload decodes from any place in a larger buffer and keeps no reference to it`, () => {
    fc.assert(
      fc.property(arbitrary, fc.integer({ min: 0, max: 7 }), (payload, before) => {
        const bytes = encodePayload(payload);
        const buffer = new Uint8Array(before + bytes.byteLength + 3).fill(0xee);
        buffer.set(bytes, before);
        const decoded = decodePayload(kind, buffer.subarray(before, before + bytes.byteLength));
        buffer.fill(0);
        assert.deepEqual(decoded, payload);
      }),
    );
  });

  test(`arbitrary bytes as a ${kind} payload give a value that encodes again, or a fault, and never throw`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
        const outcome: Payload | ReturnType<typeof decodePayload> = decodePayload(kind, bytes);
        if (isFault(outcome)) assert.ok(outcome.offset >= 0 && outcome.offset <= bytes.byteLength + 32);
        else assert.deepEqual(decodePayload(kind, encodePayload(outcome)), outcome);
      }),
    );
  });
}

const FIXED: readonly (readonly [PayloadKind, number])[] = [
  ["none", 0],
  ["u64", 8],
  ["vringState", 8],
  ["vringAddr", 40],
  ["vringFd", 8],
  ["log", 16],
  ["iotlb", 32],
  ["vringArea", 24],
  ["sharedObject", 16],
  ["deviceState", 8],
  ["shmemMap", 40],
];

for (const [kind, size] of FIXED) {
  test(`a ${kind} payload is taken with ${size} bytes and with no other number`, () => {
    for (let length = 0; length <= 64; length++) {
      const bytes = new Uint8Array(length);
      if (kind === "iotlb" && length === size) bytes[25] = IOTLB_TYPE.UPDATE;
      if (length === size) assert.ok(!isFault(decodePayload(kind, bytes) as Payload));
      else assert.equal(faultOf(kind, bytes).code, "payload-size");
    }
  });
}

test("a memory table whose size does not match its count is refused", () => {
  const table = new Uint8Array(8 + 2 * 32);
  table[0] = 2;
  assert.ok(!isFault(decodePayload("memTable", table)));
  table[0] = 1;
  assert.equal(faultOf("memTable", table).code, "payload-size");
  table[0] = 3;
  assert.equal(faultOf("memTable", table).code, "payload-size");
  assert.equal(faultOf("memTable", table.subarray(0, 7)).code, "payload-size");
});

test("a memory table with an absurd count is refused before anything is allocated for it", () => {
  const table = new Uint8Array(8).fill(0xff, 0, 4);
  const { code, message } = faultOf("memTable", table);
  assert.equal(code, "too-many-regions");
  assert.match(message, /4294967295 regions/);
  table.set([MAX_TABLE_REGIONS + 1, 0, 0, 0]);
  assert.equal(faultOf("memTable", table).code, "too-many-regions");
});

test("regions of 40 bytes are Xen's, in a table and alone", () => {
  const table = new Uint8Array(8 + 2 * 40);
  table[0] = 2;
  table[8 + 40 + 36] = 7;
  const outcome = decodePayload("memTable", table);
  assert.ok(!isFault(outcome));
  assert.deepEqual(outcome.regions[1].xen, { flags: 0, domid: 7 });
  const single = decodePayload("memRegion", new Uint8Array(48));
  assert.ok(!isFault(single));
  assert.deepEqual(single.region.xen, { flags: 0, domid: 0 });
});

test("an IOTLB message of an unknown type or permission is refused at its byte", () => {
  const bytes = new Uint8Array(32);
  bytes[25] = 7;
  assert.deepEqual(faultOf("iotlb", bytes), {
    code: "payload-value",
    offset: 25,
    message: "IOTLB message type 7 is unknown",
  });
  bytes[25] = 0;
  assert.equal(faultOf("iotlb", bytes).offset, 25);
  bytes.set([4, IOTLB_TYPE.UPDATE], 24);
  assert.equal(faultOf("iotlb", bytes).offset, 24);
});

test("the garbage that QEMU leaves in the permission of an INVALIDATE is no fault", () => {
  const bytes = new Uint8Array(32);
  bytes.set([0xff, IOTLB_TYPE.INVALIDATE], 24);
  assert.ok(!isFault(decodePayload("iotlb", bytes)));
});

test("a config message whose own size is not its data's, or beyond the limit, is refused at the size", () => {
  const bytes = new Uint8Array(12 + 8);
  assert.deepEqual(faultOf("config", bytes).code, "config-size");
  bytes[4] = 9;
  assert.equal(faultOf("config", bytes).offset, 4);
  bytes[4] = 8;
  assert.ok(!isFault(decodePayload("config", bytes)));
  const large = new Uint8Array(12 + 257);
  large.set([1, 1], 4);
  assert.match(faultOf("config", large).message, /at most 256/);
});

test("an inflight description is taken with and without its tail padding", () => {
  for (const [size, padded] of [
    [20, false],
    [24, true],
  ] as const) {
    const outcome = decodePayload("inflight", new Uint8Array(size));
    assert.ok(!isFault(outcome));
    assert.equal(outcome.padded, padded);
  }
  assert.equal(faultOf("inflight", new Uint8Array(22)).code, "payload-size");
});

test("the unassigned bits of a vring descriptor message are ignored", () => {
  const outcome = decodePayload("vringFd", Uint8Array.of(5, 0xfe, 0xff, 0, 0, 0, 0, 0x80));
  assert.deepEqual(outcome, { kind: "vringFd", index: 5, noFd: false });
});

test("a value of ours that does not fit its field throws", () => {
  assert.throws(() => encodePayload({ kind: "u64", value: 2n ** 64n }), RangeError);
  assert.throws(() => encodePayload({ kind: "vringState", index: -1, num: 0 }), RangeError);
  assert.throws(() => encodePayload({ kind: "vringFd", index: 256, noFd: false }), RangeError);
});
