import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { layoutFaults } from "../../virtio/index.js";
import { NaiveBlocks } from "./capture.fixture.js";
import { CaptureError } from "./error.js";
import { interfaceBlock, packetBlock, sectionBlock } from "./pcapng-encode.js";
import { CAPTURE_LAYOUTS } from "./pcapng-layout.js";
import { type CapturedPacket, readPackets } from "./pcapng-reader.js";

const folder = mkdtempSync(join(tmpdir(), "b33-pcapng-"));
after(() => rmSync(folder, { recursive: true }));
const file = join(folder, "some.pcapng");

/** What can be read of these bytes, and how that ended. */
function read(bytes: Uint8Array): {
  readonly packets: CapturedPacket[];
  readonly error: CaptureError | undefined;
} {
  writeFileSync(file, bytes);
  const packets: CapturedPacket[] = [];
  try {
    for (const packet of readPackets(file)) packets.push(packet);
  } catch (error) {
    if (!(error instanceof CaptureError)) throw error;
    return { packets, error };
  }
  return { packets, error: undefined };
}

const DATA = Uint8Array.of(1, 2, 3, 4, 5);
const TIME_NS = 1_700_000_000_123_456_789n;
const COMMENT = { code: 1, value: Buffer.from("odd") };

function written(): Uint8Array {
  return Buffer.concat([
    sectionBlock({ application: "bit33 test" }),
    interfaceBlock({ linkType: 147, name: "vhost-user", description: "messages" }),
    packetBlock({ interface: 0, timeNs: TIME_NS, bytes: DATA, comments: ["odd", "seltsam – 奇怪"] }),
    packetBlock({ interface: 0, timeNs: TIME_NS + 1n, bytes: DATA.subarray(0, 2), originalBytes: 5 }),
  ]);
}

describe("a pcapng file", () => {
  it("comes back as it was written: interface, nanoseconds, bytes, cut packets, comments", () => {
    const { packets, error } = read(written());
    assert.equal(error, undefined);
    assert.deepEqual(
      packets.map(({ timeNs, bytes, originalBytes, comments }) => [
        timeNs,
        [...bytes],
        originalBytes,
        comments,
      ]),
      [
        [TIME_NS, [1, 2, 3, 4, 5], 5, ["odd", "seltsam – 奇怪"]],
        [TIME_NS + 1n, [1, 2], 5, []],
      ],
    );
    assert.deepEqual([packets[0]?.interface.linkType, packets[0]?.interface.name], [147, "vhost-user"]);
  });

  it("is byte for byte what a naive writer makes", () => {
    const naive = new NaiveBlocks(true).packet(0, TIME_NS, DATA, [COMMENT]).bytes;
    const ours = packetBlock({ interface: 0, timeNs: TIME_NS, bytes: DATA, comments: ["odd"] });
    assert.deepEqual(Buffer.from(ours), naive);
  });

  for (const little of [true, false]) {
    it(`is read in ${little ? "little" : "big"}-endian byte order, with times of every unit`, () => {
      const resolution = (value: number) => ({ code: 9, value: Uint8Array.of(value) });
      const offset = Buffer.alloc(8);
      if (little) offset.writeBigInt64LE(100n);
      else offset.writeBigInt64BE(100n);
      const { packets, error } = read(
        new NaiveBlocks(little)
          .section()
          .interface(147)
          .interface(271, [resolution(9)])
          .interface(1, [resolution(0x80 | 10), { code: 14, value: offset }])
          .packet(0, 7n, DATA)
          .packet(1, TIME_NS, DATA, [COMMENT])
          .packet(2, 512n, DATA).bytes,
      );
      assert.equal(error, undefined);
      assert.deepEqual(
        packets.map((packet) => [packet.interface.linkType, packet.timeNs, packet.comments]),
        [
          [147, 7000n, []],
          [271, TIME_NS, ["odd"]],
          [1, 100_500_000_000n, []],
        ],
      );
    });
  }

  for (const [when, offsetSeconds, units] of [
    ["before 1970", -8n, 7_999_999n],
    ["behind the year 2262", 2n ** 62n, 0n],
    ["that no date can show", 0n, 2n ** 64n - 1n],
  ] as const) {
    it(`is refused with a time ${when}`, () => {
      const offset = Buffer.alloc(8);
      offset.writeBigInt64LE(offsetSeconds);
      const { packets, error } = read(
        new NaiveBlocks(true)
          .section()
          .interface(147, [{ code: 14, value: offset }])
          .packet(0, 9_000_000n, DATA)
          .packet(0, units, DATA).bytes,
      );
      assert.ok(packets.length <= 1);
      assert.equal(error?.code, "capture-damaged");
      assert.match(`${error?.where}: ${error?.message}`, /byte \d+: its packet is of .* ns since 1970/);
    });
  }

  it("may have several sections, of different byte orders, each with interfaces of its own", () => {
    const first = new NaiveBlocks(false).section().interface(147).packet(0, 1n, DATA).bytes;
    const second = new NaiveBlocks(true).section().interface(271).packet(0, 2n, DATA).bytes;
    const { packets } = read(Buffer.concat([first, second]));
    assert.deepEqual(
      packets.map((packet) => packet.interface.linkType),
      [147, 271],
    );
  });

  it("may have blocks that nobody knows here", () => {
    const { packets, error } = read(
      new NaiveBlocks(true)
        .section()
        .block(0x0bad, [Buffer.from("surprise")])
        .interface(147)
        .block(5, [Buffer.alloc(12)])
        .packet(0, 1n, DATA).bytes,
    );
    assert.equal(error, undefined);
    assert.equal(packets.length, 1);
  });

  it("cut at any byte gives the packets before, and names the block and its place", () => {
    const whole = written();
    const ends = [...blockEnds(whole)];
    for (let length = 1; length < whole.byteLength; length++) {
      const { packets, error } = read(whole.subarray(0, length));
      const blocks = ends.filter((end) => end <= length).length;
      assert.equal(packets.length, Math.max(0, blocks - 2), `${length} bytes`);
      if (ends.includes(length)) {
        assert.equal(error, undefined, `${length} bytes`);
        continue;
      }
      const start = ends[blocks - 1] ?? 0;
      assert.match(String(error?.code), length < 4 ? /^capture-format$/ : /^capture-(cut|damaged)$/);
      assert.match(
        String(error?.where),
        new RegExp(`some\\.pcapng, block ${blocks + 1} \\(.*\\) at byte ${start}$`),
      );
    }
  });

  for (const [what, bytes, code, message] of [
    ["nothing", Buffer.alloc(0), "capture-format", /no pcapng file/],
    ["text", Buffer.from("session 1 begins at noon\n"), "capture-format", /no pcapng file/],
    [
      "an old pcap file",
      Buffer.from("d4c3b2a1020004000000000000000000", "hex"),
      "capture-format",
      /editcap -F pcapng/,
    ],
    [
      "a packet of an interface that is not there",
      new NaiveBlocks(true).section().packet(3, 1n, DATA).bytes,
      "capture-damaged",
      /interface 3, and the section has described 0/,
    ],
    [
      "a length that is none",
      Buffer.concat([new NaiveBlocks(true).section().bytes, Buffer.from("0600000007000000", "hex")]),
      "capture-damaged",
      /length of 7 bytes/,
    ],
    [
      "a length beyond all reason",
      Buffer.concat([new NaiveBlocks(true).section().bytes, Buffer.from("06000000fcffff7f", "hex")]),
      "capture-damaged",
      /more than any block/,
    ],
    [
      "a packet longer than its block",
      new NaiveBlocks(true)
        .section()
        .interface(147)
        .block(6, [Buffer.alloc(12), Buffer.alloc(8, 1)]).bytes,
      "capture-damaged",
      /longer than the block/,
    ],
    [
      "an option longer than its block",
      new NaiveBlocks(true).section().block(1, [Buffer.alloc(8), Buffer.from("0200ff00", "hex")]).bytes,
      "capture-damaged",
      /option 2 has 255 bytes/,
    ],
    [
      "version 2 of the format",
      new NaiveBlocks(true).block(0x0a0d0d0a, [Buffer.from("4d3c2b1a0200000000000000ffffffff", "hex")]).bytes,
      "capture-damaged",
      /version 2\.0/,
    ],
  ] as const) {
    it(`that is ${what} is refused, with its place`, () => {
      const { error } = read(bytes);
      assert.equal(error?.code, code);
      assert.match(error.message, message);
      assert.match(error.where, /block \d+ \(.*\) at byte \d+$/);
    });
  }

  it("whose block ends with another length than it began with is refused", () => {
    const bytes = Buffer.from(written());
    bytes[bytes.length - 4] ^= 4;
    const { packets, error } = read(bytes);
    assert.equal(packets.length, 1);
    assert.match(
      String(error?.line),
      /block 4 \(Enhanced Packet\) at byte \d+: it begins with a length of 36 bytes and ends with 32/,
    );
  });

  it("that is not there is refused by its path", () => {
    const missing = join(folder, "missing.pcapng");
    assert.throws(() => [...readPackets(missing)], { code: "capture-unreadable", where: missing });
  });

  it("has tables without gap or overlap", () => {
    assert.deepEqual(CAPTURE_LAYOUTS.flatMap(layoutFaults), []);
  });
});

function* blockEnds(bytes: Uint8Array): Generator<number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < bytes.byteLength; ) {
    at += view.getUint32(at + 4, true);
    yield at;
  }
}
