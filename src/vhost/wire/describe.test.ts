import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { describeFrame, describeMessage } from "./describe.js";
import { decodeHeader, FLAG } from "./header.js";
import { HEADER_BYTES } from "./limits.js";
import { decodeMessage, encodeFrame, encodeReply, encodeRequest } from "./message.js";
import type { Channel } from "./message-record.js";
import { messagesOf } from "./messages.js";
import type { Payload } from "./payload.js";
import { PAYLOAD_ARBITRARIES } from "./payload-arbitraries.fixture.js";
import { type RecordedMessage, TABLE_SESSION, VIOMMU_SESSION } from "./qemu-session.fixture.js";

function line(channel: Channel, bytes: Uint8Array, fdCount = 0): string {
  const fds = Array.from({ length: fdCount }, (_, n) => n);
  const frame = { header: decodeHeader(bytes), payload: bytes.subarray(HEADER_BYTES), fds };
  const outcome = decodeMessage(channel, frame);
  assert.ok(outcome.ok, outcome.ok ? "" : outcome.error.message);
  return describeMessage(outcome.value, { deviceType: "vsock" });
}

const recorded = (message: RecordedMessage): string =>
  line(message.channel, new Uint8Array(Buffer.from(message.hex, "hex")), message.fds);

test("a real session reads as a story", () => {
  const lines = VIOMMU_SESSION.map(recorded);
  const expected = [
    "GET_FEATURES",
    "SET_PROTOCOL_FEATURES 0x1a62b [MQ LOG_SHMFD REPLY_ACK BACKEND_REQ CONFIG BACKEND_SEND_FD RESET_DEVICE " +
      "CONFIGURE_MEM_SLOTS STATUS]",
    "SET_BACKEND_REQ_FD NEED_REPLY fds=1",
    "SET_BACKEND_REQ_FD REPLY ok",
    "GET_CONFIG REPLY offset=0 size=8 flags=0 data=0300000000000000",
    "SET_FEATURES 0x10370000002 [VSOCK_SEQPACKET INDIRECT_DESC EVENT_IDX PROTOCOL_FEATURES VERSION_1 " +
      "ACCESS_PLATFORM RING_RESET]",
    "SET_STATUS 0x8 [FEATURES_OK]",
    "ADD_MEM_REG NEED_REPLY gpa=0x0 size=0x10000000 user=0x7f5013fff000 offset=0x0 fds=1",
    "SET_VRING_ADDR q0 desc=0xfffff000 used=0xfffff940 avail=0xfffff800 log=0xfffff940",
    "SET_VRING_KICK q0 fds=1",
    "SET_VRING_ENABLE q0 num=1",
    "BACKEND_IOTLB_MSG NEED_REPLY MISS iova=0xffffe800 perm=r",
    "IOTLB_MSG NEED_REPLY UPDATE iova=0xfffff000 size=0x1000 user=0x7f50193e0000 perm=rw",
    "IOTLB_MSG REPLY ok",
    "BACKEND_IOTLB_MSG REPLY ok",
    "GET_VRING_BASE REPLY q1 num=0",
  ];
  for (const text of expected) assert.ok(lines.includes(text), text);
  const table =
    "SET_MEM_TABLE NEED_REPLY regions=1; gpa=0x0 size=0x10000000 user=0x7f135ffff000 offset=0x0 fds=1";
  assert.ok(TABLE_SESSION.map(recorded).includes(table));
});

test("an INVALIDATE shows neither the address nor the permission that QEMU leaves in it", () => {
  const payload = {
    kind: "iotlb",
    iova: 0x1000n,
    size: 0x2000n,
    userAddress: 0x53f1n,
    perm: 2,
    type: 3,
  } as const;
  const bytes = encodeRequest("frontend", "IOTLB_MSG", payload);
  assert.equal(line("frontend", bytes), "IOTLB_MSG INVALIDATE iova=0x1000 size=0x2000");
});

test("a failed acknowledgement says so with its value", () => {
  const header = { request: 2, flags: FLAG.version, size: 0 };
  assert.equal(
    line("frontend", encodeReply(header, { kind: "u64", value: 1n })),
    "SET_FEATURES REPLY failed (1)",
  );
});

test("a frame that is not understood prints its numbers", () => {
  const bytes = encodeFrame(99, FLAG.needReply, { kind: "u64", value: 0n });
  const frame = { header: decodeHeader(bytes), payload: bytes.subarray(HEADER_BYTES), fds: [1, 2] };
  assert.equal(describeFrame(frame), "request 99 NEED_REPLY 8 bytes fds=2");
});

test("every message prints on one line that starts with its name", () => {
  for (const channel of ["frontend", "backend"] as const) {
    for (const record of messagesOf(channel)) {
      const payloads: fc.Arbitrary<Payload> = PAYLOAD_ARBITRARIES[record.request];
      fc.assert(
        fc.property(payloads, (payload) => {
          const header = { request: record.id, flags: FLAG.version, size: 0 };
          const text = describeMessage({
            channel,
            record,
            header,
            reply: false,
            needReply: false,
            payload,
            fds: [],
          });
          assert.ok(text.startsWith(channel === "backend" ? `BACKEND_${record.name}` : record.name));
          assert.doesNotMatch(text, /[\n\r]|undefined|\s$/);
        }),
        { numRuns: 20 },
      );
    }
  }
});
