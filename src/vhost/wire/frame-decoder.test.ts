import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { WireError } from "./error.js";
import { FrameDecoder } from "./frame-decoder.js";
import { HEADER_BYTES, MAX_PAYLOAD_BYTES } from "./limits.js";
import { encodeFrame } from "./message.js";
import { VIOMMU_SESSION } from "./qemu-session.fixture.js";

/** A frame with its view copied, so that it can be compared later. */
interface Taken {
  readonly request: number;
  readonly flags: number;
  readonly payload: string;
  readonly fds: readonly number[];
}

function drain(decoder: FrameDecoder): { frames: Taken[]; error: WireError | undefined } {
  const frames: Taken[] = [];
  for (let next = decoder.next(); next !== undefined; next = decoder.next()) {
    if (!next.ok) return { frames, error: next.error };
    const { header, payload, fds } = next.value;
    assert.equal(payload.byteLength, header.size);
    const hex = Buffer.from(payload).toString("hex");
    frames.push({ request: header.request, flags: header.flags, payload: hex, fds });
  }
  return { frames, error: undefined };
}

const bytesOf = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, "hex"));
const SESSION = VIOMMU_SESSION.filter((message) => message.channel === "frontend");
const STREAM = bytesOf(SESSION.map((message) => message.hex).join(""));
const EXPECTED: readonly Taken[] = SESSION.map(({ hex }) => {
  const bytes = bytesOf(hex);
  const payload = Buffer.from(bytes.subarray(HEADER_BYTES)).toString("hex");
  return { request: bytes[0], flags: bytes[4], payload, fds: [] };
});

test("a session cut in two at every point gives the same frames", () => {
  for (let cut = 0; cut <= STREAM.byteLength; cut++) {
    const decoder = new FrameDecoder();
    decoder.push(STREAM.subarray(0, cut));
    const first = drain(decoder);
    decoder.push(STREAM.subarray(cut));
    const second = drain(decoder);
    assert.deepEqual([...first.frames, ...second.frames], EXPECTED);
    assert.equal(decoder.end(), undefined);
  }
});

test("a session in single bytes gives the same frames", () => {
  const decoder = new FrameDecoder();
  const frames: Taken[] = [];
  for (let at = 0; at < STREAM.byteLength; at++) {
    decoder.push(STREAM.subarray(at, at + 1));
    frames.push(...drain(decoder).frames);
  }
  assert.deepEqual(frames, EXPECTED);
});

test("a session cut anywhere any number of times, in one reused buffer, gives the same frames", () => {
  const cuts = fc.array(fc.integer({ min: 1, max: 200 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(cuts, (lengths) => {
      const decoder = new FrameDecoder();
      const buffer = new Uint8Array(200);
      const frames: Taken[] = [];
      for (let at = 0, n = 0; at < STREAM.byteLength; n++) {
        const length = Math.min(lengths[n % lengths.length], STREAM.byteLength - at);
        buffer.fill(0xcc);
        buffer.set(STREAM.subarray(at, at + length));
        decoder.push(buffer.subarray(0, length));
        frames.push(...drain(decoder).frames);
        at += length;
      }
      assert.deepEqual(frames, EXPECTED);
    }),
  );
});

test("reading the bytes that are wanted ends at each header and each payload, and gives each frame its descriptors", () => {
  const decoder = new FrameDecoder();
  const frames: Taken[] = [];
  let frameStart = true;
  let fdNumber = 100;
  const given: number[][] = [];
  for (let at = 0; at < STREAM.byteLength; ) {
    const length = decoder.bytesWanted;
    assert.ok(length > 0);
    const fds = frameStart ? [fdNumber++, fdNumber++] : [];
    if (frameStart) given.push(fds);
    decoder.push(STREAM.subarray(at, at + length), fds);
    const { frames: got } = drain(decoder);
    assert.ok(got.length <= 1);
    frames.push(...got);
    frameStart = got.length === 1;
    at += length;
  }
  assert.deepEqual(
    frames.map((frame) => frame.fds),
    given,
  );
});

const KICK = encodeFrame(12, 0, { kind: "vringFd", index: 0, noFd: false });
const PLAIN = encodeFrame(8, 0, { kind: "vringState", index: 0, num: 128 });

test("descriptors that come with a header's first byte stay with that message at every later cut", () => {
  const stream = new Uint8Array([...KICK, ...PLAIN]);
  for (let cut = 1; cut <= KICK.byteLength; cut++) {
    const decoder = new FrameDecoder();
    decoder.push(stream.subarray(0, cut), [7]);
    const first = drain(decoder).frames;
    decoder.push(stream.subarray(cut));
    const frames = [...first, ...drain(decoder).frames];
    assert.deepEqual(
      frames.map((frame) => frame.fds),
      [[7], []],
    );
  }
});

test("a read that glues messages without descriptors in front of one with them gives them to the last", () => {
  const decoder = new FrameDecoder();
  decoder.push(new Uint8Array([...PLAIN, ...PLAIN, ...KICK]), [7]);
  assert.deepEqual(
    drain(decoder).frames.map((frame) => frame.fds),
    [[], [], [7]],
  );
});

test("the end of one message and the start of the next in a read leave the descriptors to the next", () => {
  const stream = new Uint8Array([...PLAIN, ...KICK]);
  const decoder = new FrameDecoder();
  decoder.push(stream.subarray(0, 5));
  assert.deepEqual(drain(decoder).frames, []);
  decoder.push(stream.subarray(5, PLAIN.byteLength + 3), [7]);
  const first = drain(decoder).frames;
  decoder.push(stream.subarray(PLAIN.byteLength + 3));
  const second = drain(decoder).frames;
  assert.deepEqual(
    [...first, ...second].map((frame) => frame.fds),
    [[], [7]],
  );
});

test("a frame within one chunk is a view of it and not a copy", () => {
  const decoder = new FrameDecoder();
  const chunk = PLAIN.slice();
  decoder.push(chunk);
  const next = decoder.next();
  assert.ok(next?.ok);
  assert.equal(next.value.payload.buffer, chunk.buffer);
});

test("a wrong version ends the stream with a fatal error, once", () => {
  for (const version of [0, 2, 3]) {
    const bytes = PLAIN.slice();
    bytes[4] = version;
    const decoder = new FrameDecoder();
    decoder.push(new Uint8Array([...KICK, ...bytes, ...KICK]), [7]);
    const { frames, error } = drain(decoder);
    assert.equal(frames.length, 1);
    assert.equal(error?.code, "bad-version");
    assert.equal(error?.fatal, true);
    assert.equal(decoder.failed, true);
    assert.equal(decoder.next(), undefined);
    assert.deepEqual(decoder.releaseFds(), [7]);
  }
});

test("a size beyond every legal message ends the stream before anything is allocated", () => {
  const header = (size: number) => {
    const bytes = PLAIN.slice(0, HEADER_BYTES);
    new DataView(bytes.buffer).setUint32(8, size, true);
    return bytes;
  };
  const accepted = new FrameDecoder();
  accepted.push(header(MAX_PAYLOAD_BYTES));
  assert.equal(accepted.next(), undefined);
  assert.equal(accepted.bytesWanted, MAX_PAYLOAD_BYTES);
  for (const size of [MAX_PAYLOAD_BYTES + 1, 0xffffffff]) {
    const decoder = new FrameDecoder();
    decoder.push(header(size));
    const { error } = drain(decoder);
    assert.equal(error?.code, "payload-too-large");
    assert.equal(error?.request, 8);
    assert.equal(error?.offset, 8);
  }
});

test("a stream that ends within a message is truncated, one that ends between messages is not", () => {
  for (let length = 0; length <= PLAIN.byteLength; length++) {
    const decoder = new FrameDecoder();
    decoder.push(PLAIN.subarray(0, length), length > 0 ? [7] : []);
    const { frames } = drain(decoder);
    const error = decoder.end();
    if (length === 0 || length === PLAIN.byteLength) {
      assert.equal(error, undefined);
      assert.deepEqual(decoder.releaseFds(), []);
      assert.equal(frames.length, length === 0 ? 0 : 1);
    } else {
      assert.equal(error?.code, "truncated");
      assert.equal(error?.offset, length);
      assert.deepEqual(decoder.releaseFds(), [7]);
    }
  }
});

test("pushing before the last chunk was drained is our mistake and throws", () => {
  const decoder = new FrameDecoder();
  decoder.push(PLAIN);
  assert.throws(() => decoder.push(PLAIN), /drained/);
});

test("arbitrary bytes never throw and every descriptor comes back out", () => {
  const chunks = fc.array(fc.tuple(fc.uint8Array({ maxLength: 64 }), fc.array(fc.nat(), { maxLength: 3 })));
  fc.assert(
    fc.property(chunks, (input) => {
      const decoder = new FrameDecoder();
      const out: number[] = [];
      for (const [bytes, fds] of input) {
        decoder.push(bytes, fds);
        for (const frame of drain(decoder).frames) out.push(...frame.fds);
      }
      out.push(...decoder.releaseFds());
      assert.deepEqual(
        out,
        input.flatMap(([, fds]) => fds),
      );
    }),
  );
});
