import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { F, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import type { WireError } from "./error.js";
import { type Frame, FrameDecoder } from "./frame-decoder.js";
import { decodeHeader, FLAG, isReply, needsReply } from "./header.js";
import { HEADER_BYTES } from "./limits.js";
import {
  decodeMessage,
  encodeAck,
  encodeFrame,
  encodeReply,
  encodeRequest,
  type Message,
} from "./message.js";
import type { Channel } from "./message-record.js";
import {
  isLegal,
  messageById,
  messageByName,
  messagesOf,
  type NegotiatedWords,
  replyDue,
} from "./messages.js";
import type { Payload } from "./payload.js";
import { PAYLOAD_ARBITRARIES, PAYLOAD_KINDS, u32 } from "./payload-arbitraries.fixture.js";
import { TABLE_SESSION, VIOMMU_SESSION } from "./qemu-session.fixture.js";

const CHANNELS: readonly Channel[] = ["frontend", "backend"];

function frameOf(bytes: Uint8Array, fds: readonly number[] = []): Frame {
  return { header: decodeHeader(bytes), payload: bytes.subarray(HEADER_BYTES), fds };
}

function decoded(channel: Channel, bytes: Uint8Array, fds: readonly number[] = []): Message {
  const outcome = decodeMessage(channel, frameOf(bytes, fds));
  assert.ok(outcome.ok, outcome.ok ? "" : outcome.error.message);
  return outcome.value;
}

function errorOf(channel: Channel, bytes: Uint8Array, fds: readonly number[] = []): WireError {
  const outcome = decodeMessage(channel, frameOf(bytes, fds));
  assert.ok(!outcome.ok);
  return outcome.error;
}

/** As many descriptors as a payload itself calls for, or the fewest that the message takes. */
function fdsFor(payload: Payload, min: number): number[] {
  if (payload.kind === "memTable") return payload.regions.map((_, n) => n);
  if (payload.kind === "vringFd") return payload.noFd ? [] : [0];
  return Array.from({ length: min }, (_, n) => n);
}

for (const channel of CHANNELS) {
  for (const record of messagesOf(channel)) {
    const requests: fc.Arbitrary<Payload> = PAYLOAD_ARBITRARIES[record.request];

    test(`the ${channel}'s ${record.name} arrives as it was sent`, () => {
      fc.assert(
        fc.property(requests, fc.boolean(), (payload, needReply) => {
          const fds = fdsFor(payload, record.fds.min);
          const bytes = encodeRequest(channel, record.name, payload, { needReply });
          const message = decoded(channel, bytes, fds);
          assert.deepEqual(
            { ...message, header: undefined },
            { channel, record, header: undefined, reply: false, needReply, payload, fds },
          );
        }),
        { numRuns: 25 },
      );
    });

    test(`the answer to the ${channel}'s ${record.name} carries its number and the reply flag`, () => {
      const own: fc.Arbitrary<Payload> =
        PAYLOAD_ARBITRARIES[record.replies === "never" ? "u64" : record.reply];
      fc.assert(
        fc.property(own, u32, (payload, flags) => {
          const answer = encodeReply({ request: record.id, flags, size: 0 }, payload);
          const message = decoded(channel, answer);
          assert.equal(message.header.request, record.id);
          assert.equal(message.header.flags, FLAG.version | FLAG.reply);
          assert.equal(message.reply, true);
          assert.deepEqual(message.payload, payload);
        }),
        { numRuns: 25 },
      );
    });
  }
}

for (const [name, session] of [
  ["behind a virtio-iommu", VIOMMU_SESSION],
  ["with a memory table", TABLE_SESSION],
] as const) {
  test(`every message of a real QEMU session ${name} is understood and encodes to the same bytes`, () => {
    for (const { channel, hex, fds } of session) {
      const bytes = new Uint8Array(Buffer.from(hex, "hex"));
      const message = decoded(
        channel,
        bytes,
        Array.from({ length: fds }, (_, n) => n),
      );
      const flags = (message.reply ? FLAG.reply : 0) | (message.needReply ? FLAG.needReply : 0);
      // The tail padding of an IOTLB message is whatever QEMU had on its stack.
      if (message.payload.kind === "iotlb") bytes.fill(0, HEADER_BYTES + 26);
      assert.deepEqual(encodeFrame(message.record.id, flags, message.payload), bytes);
    }
  });
}

// The answer of QEMU to a MISS, as it came six times in one read.
test("an acknowledgement is the one that QEMU sends on the back-end channel", () => {
  const ack = encodeAck({ request: 1, flags: FLAG.version, size: 0 }, 0n);
  assert.equal(Buffer.from(ack).toString("hex"), "0100000005000000080000000000000000000000");
});

test("numbers and names are unique in each direction and the tables agree with each other", () => {
  for (const channel of CHANNELS) {
    const records = messagesOf(channel);
    assert.equal(new Set(records.map((record) => record.name)).size, records.length);
    for (const record of records) {
      assert.deepEqual(messageByName(channel, record.name), messageById(channel, record.id));
      assert.equal(record.replies === "never", record.reply === "none", record.name);
      assert.ok(record.fds.min <= record.fds.max);
    }
  }
  assert.deepEqual(
    messagesOf("frontend").map((record) => record.id),
    Array.from({ length: 44 }, (_, n) => n + 1),
  );
  assert.deepEqual(
    messagesOf("backend").map((record) => record.id),
    Array.from({ length: 10 }, (_, n) => n + 1),
  );
});

test("an unknown request is named by number and does not end the stream", () => {
  const error = errorOf("frontend", encodeFrame(99, 0, { kind: "none" }));
  assert.equal(error.code, "unknown-request");
  assert.equal(error.request, 99);
  assert.equal(error.fatal, false);
});

test("a payload of the wrong size names the message and the place behind the header", () => {
  const error = errorOf("frontend", encodeFrame(9, 0, { kind: "u64", value: 0n }));
  assert.equal(error.code, "payload-size");
  assert.equal(error.request, 9);
  assert.equal(error.offset, HEADER_BYTES);
  assert.match(error.message, /^SET_VRING_ADDR: payload of 8 bytes where 40 are due/);
});

test("too few and too many descriptors are refused", () => {
  const region = { guestAddress: 0n, size: 4096n, userAddress: 0n, mmapOffset: 0n };
  const add = encodeRequest("frontend", "ADD_MEM_REG", { kind: "memRegion", region });
  const table = encodeRequest("frontend", "SET_MEM_TABLE", { kind: "memTable", regions: [region, region] });
  const features = encodeRequest("frontend", "GET_FEATURES");
  assert.equal(errorOf("frontend", add).code, "fd-count");
  assert.equal(errorOf("frontend", add, [4, 5]).code, "fd-count");
  assert.equal(errorOf("frontend", table, [4]).code, "fd-count");
  assert.equal(errorOf("frontend", table, [4, 5, 6]).code, "fd-count");
  assert.equal(errorOf("frontend", features, [4]).code, "fd-count");
});

test("the invalid FD flag decides whether a vring descriptor comes", () => {
  const kick = (noFd: boolean) =>
    encodeRequest("frontend", "SET_VRING_KICK", { kind: "vringFd", index: 1, noFd });
  assert.equal(decoded("frontend", kick(true)).fds.length, 0);
  assert.equal(decoded("frontend", kick(false), [7]).fds.length, 1);
  assert.equal(errorOf("frontend", kick(true), [7]).code, "fd-count");
  assert.equal(errorOf("frontend", kick(false)).code, "fd-count");
});

test("a removed region may come with a descriptor, as older front-ends send it", () => {
  const region = { guestAddress: 0n, size: 4096n, userAddress: 0n, mmapOffset: 0n };
  const remove = encodeRequest("frontend", "REM_MEM_REG", { kind: "memRegion", region });
  assert.deepEqual(decoded("frontend", remove).fds, []);
  assert.deepEqual(decoded("frontend", remove, [9]).fds, [9]);
});

test("SET_LOG_BASE is understood with the log description and with the older u64", () => {
  const log: Payload = { kind: "log", size: 4096n, offset: 0n };
  assert.deepEqual(decoded("frontend", encodeRequest("frontend", "SET_LOG_BASE", log), [3]).payload, log);
  const older: Payload = { kind: "u64", value: 5n };
  assert.deepEqual(decoded("frontend", encodeRequest("frontend", "SET_LOG_BASE", older)).payload, older);
});

test("a configuration reply without payload is an error of the device, not of the wire", () => {
  const reply = encodeReply({ request: 24, flags: FLAG.version, size: 0 }, { kind: "none" });
  assert.deepEqual(decoded("frontend", reply).payload, { kind: "none" });
});

test("under postcopy a memory table is answered with a memory table", () => {
  const region = { guestAddress: 0n, size: 4096n, userAddress: 1n, mmapOffset: 0n };
  const table: Payload = { kind: "memTable", regions: [region] };
  assert.deepEqual(decoded("frontend", encodeFrame(5, FLAG.reply, table)).payload, table);
});

test("sending a payload that the message does not carry throws", () => {
  assert.throws(
    () => encodeRequest("frontend", "SET_OWNER", { kind: "u64", value: 0n }),
    /SET_OWNER carries none/,
  );
});

const WORDS: NegotiatedWords = {
  offeredFeatures: maskOf(F.PROTOCOL_FEATURES, F.ACCESS_PLATFORM),
  features: 0n,
  protocolFeatures: 0n,
};

test("a message is legal once the feature that gates it was negotiated", () => {
  const legal = (name: Parameters<typeof messageByName<"frontend">>[1], words: Partial<NegotiatedWords>) =>
    isLegal(messageByName("frontend", name), { ...WORDS, ...words });
  assert.equal(legal("SET_OWNER", { offeredFeatures: 0n }), true);
  assert.equal(legal("GET_PROTOCOL_FEATURES", {}), true);
  assert.equal(legal("GET_PROTOCOL_FEATURES", { offeredFeatures: 0n }), false);
  assert.equal(legal("SET_VRING_ENABLE", {}), false);
  assert.equal(legal("SET_VRING_ENABLE", { features: maskOf(F.PROTOCOL_FEATURES) }), true);
  assert.equal(legal("GET_CONFIG", {}), false);
  assert.equal(legal("GET_CONFIG", { protocolFeatures: maskOf(PROTOCOL_F.CONFIG) }), true);
});

test("IOTLB messages are legal under bit 33 or under the explicit feature, wherever that one sits", () => {
  for (const channel of CHANNELS) {
    const record = messageByName(channel, "IOTLB_MSG");
    assert.equal(isLegal(record, WORDS), false);
    assert.equal(isLegal(record, { ...WORDS, features: maskOf(F.ACCESS_PLATFORM) }), true);
    assert.equal(isLegal(record, { ...WORDS, protocolFeatures: maskOf(50) }), false);
    assert.equal(isLegal(record, { ...WORDS, protocolFeatures: maskOf(50), explicitIotlbBit: 50 }), true);
    assert.equal(isLegal(record, { ...WORDS, protocolFeatures: maskOf(51), explicitIotlbBit: 50 }), false);
  }
});

test("an own reply is due always, an acknowledgement only if both sides want it", () => {
  const ackOn = maskOf(PROTOCOL_F.REPLY_ACK);
  const iotlb = messageByName("frontend", "IOTLB_MSG");
  const setOwner = messageByName("frontend", "SET_OWNER");
  const logBase = messageByName("frontend", "SET_LOG_BASE");
  assert.equal(replyDue(iotlb, false, 0n), "reply");
  assert.equal(replyDue(iotlb, true, ackOn), "reply");
  assert.equal(replyDue(setOwner, true, ackOn), "ack");
  assert.equal(replyDue(setOwner, true, 0n), "none");
  assert.equal(replyDue(setOwner, false, ackOn), "none");
  assert.equal(replyDue(logBase, false, maskOf(PROTOCOL_F.LOG_SHMFD)), "reply");
  assert.equal(replyDue(logBase, false, 0n), "none");
  assert.equal(replyDue(undefined, true, ackOn), "ack");
});

test("arbitrary frames give a message or an error with a code and a place, and never throw", () => {
  const anyPayload = fc.oneof(
    ...PAYLOAD_KINDS.map((kind): fc.Arbitrary<Payload> => PAYLOAD_ARBITRARIES[kind]),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...CHANNELS),
      fc.integer({ min: 0, max: 60 }),
      u32,
      anyPayload,
      fc.integer({ min: 0, max: 40 }),
      (channel, request, flags, payload, fdCount) => {
        const bytes = encodeFrame(request, flags, payload);
        const fds = Array.from({ length: fdCount }, (_, n) => n);
        const outcome = decodeMessage(channel, frameOf(bytes, fds));
        if (outcome.ok) {
          assert.equal(outcome.value.reply, isReply(outcome.value.header));
          assert.equal(outcome.value.needReply, needsReply(outcome.value.header));
        } else {
          assert.ok(outcome.error.offset >= 0 && outcome.error.offset <= HEADER_BYTES + 32);
          assert.equal(outcome.error.request, request);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test("a whole recorded session passes through one decoder as through many", () => {
  const frontend = VIOMMU_SESSION.filter((message) => message.channel === "frontend");
  const decoder = new FrameDecoder();
  decoder.push(Buffer.from(frontend.map((message) => message.hex).join(""), "hex"));
  let count = 0;
  for (let next = decoder.next(); next !== undefined; next = decoder.next()) {
    assert.ok(next.ok);
    count++;
  }
  assert.equal(count, frontend.length);
  assert.equal(decoder.end(), undefined);
});
