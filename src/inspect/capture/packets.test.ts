import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { layoutFaults } from "../../virtio/index.js";
import { Op, PacketHeader, SocketType } from "../../vsock/header.js";
import { noTraffic, type RingTraffic } from "../rings/traffic.js";
import {
  decodeLink,
  encodeLink,
  LINK_CHANNELS,
  LINK_DESCRIPTOR_KINDS,
  LINK_DIRECTIONS,
  LINK_ENDERS,
  LINK_HEADER,
  LINK_KIND,
  type LinkKind,
  type LinkPacket,
  PLAIN_LINK,
} from "./link-header.js";
import { decodeRingRecord, encodeRingRecord, faultRecord, trafficRecord } from "./ring-record.js";
import { decodeVsockPacket, encodeVsockPacket, VSOCKMON_HEADER, VSOCKMON_OP } from "./vsockmon.js";

const packets: fc.Arbitrary<LinkPacket> = fc
  .record({
    kind: fc.constantFrom(...(Object.keys(LINK_KIND) as LinkKind[])),
    session: fc.nat(),
    channel: fc.constantFrom(...LINK_CHANNELS),
    direction: fc.constantFrom(...LINK_DIRECTIONS),
    ender: fc.constantFrom(...LINK_ENDERS),
    isGap: fc.boolean(),
    isBroken: fc.boolean(),
    kinds: fc.array(fc.constantFrom(...LINK_DESCRIPTOR_KINDS), { maxLength: 253 }),
    areKindsSeen: fc.boolean(),
    body: fc.uint8Array({ maxLength: 300 }),
  })
  .map(({ kinds, areKindsSeen, ...rest }) => ({
    ...rest,
    descriptorCount: kinds.length,
    descriptorKinds: areKindsSeen ? kinds : undefined,
  }));

describe("a vhost-user packet of a capture", () => {
  it("comes back as it was written", () => {
    fc.assert(fc.property(packets, (packet) => assert.deepEqual(decodeLink(encodeLink(packet)), packet)));
  });

  it("stands in the file as docs/captures.md says", () => {
    const packet: LinkPacket = {
      ...PLAIN_LINK,
      kind: "message",
      session: 2,
      channel: "backend",
      direction: "to-frontend",
      descriptorCount: 2,
      descriptorKinds: ["memory", "eventfd"],
      body: Uint8Array.of(0xaa),
    };
    assert.equal(
      Buffer.from(encodeLink(packet)).toString("hex"),
      [
        "76687566",
        "01",
        "00",
        "1600",
        "02000000",
        "01",
        "01",
        "01",
        "02",
        "0200",
        "0000",
        "00",
        "01",
        "aa",
      ].join(""),
    );
    assert.deepEqual(layoutFaults(LINK_HEADER), []);
  });

  it("of any bytes is a packet or says why it is none", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        assert.equal(typeof decodeLink(bytes), "string");
      }),
    );
    const whole = encodeLink({ ...PLAIN_LINK, kind: "message", session: 1 });
    for (let at = 0; at < whole.length; at++) {
      for (const value of [0xff, 0x7f, 0]) {
        const changed = whole.slice();
        changed[at] = value;
        const decoded = decodeLink(changed);
        assert.ok(typeof decoded === "string" || decoded.body.byteLength <= whole.length);
      }
    }
  });
});

describe("what a capture says of rings", () => {
  const figures = fc.record(
    Object.fromEntries(
      (Object.keys(noTraffic()) as (keyof RingTraffic)[]).map((name) => [name, fc.nat()]),
    ) as Record<keyof RingTraffic, fc.Arbitrary<number>>,
  );

  it("comes back as it was written", () => {
    const fault = { timeNs: 5n, ring: 1, kind: "indices", text: "the used index is …" } as const;
    assert.deepEqual(decodeRingRecord(encodeRingRecord(faultRecord(fault))), {
      fault: { ring: 1, kind: "indices", text: "the used index is …" },
    });
    fc.assert(
      fc.property(fc.array(fc.tuple(fc.nat(), figures)), (rings) => {
        const record = trafficRecord(new Map(rings));
        assert.deepEqual(decodeRingRecord(encodeRingRecord(record)), record);
      }),
    );
  });

  it("is nothing if it is anything else", () => {
    for (const text of [
      "",
      "{",
      "null",
      "[]",
      "{}",
      '{"fault":null}',
      '{"fault":{"ring":-1,"kind":"indices","text":""}}',
      '{"fault":{"ring":0,"kind":"other","text":""}}',
      '{"fault":{"ring":0,"kind":"indices","text":7}}',
      '{"traffic":[{}]}',
      '{"traffic":[{"ring":0,"available":1e300}]}',
    ])
      assert.equal(decodeRingRecord(new TextEncoder().encode(text)), undefined, text);
  });
});

describe("a vsock packet of a capture", () => {
  const header = new PacketHeader();
  Object.assign(header, {
    srcCid: 3,
    dstCid: 2,
    srcPort: 1024,
    dstPort: 5000,
    len: 5,
    type: SocketType.STREAM,
    op: Op.RW,
  });
  const bytes = new Uint8Array(44);
  header.write(new DataView(bytes.buffer), 0);

  it("stands behind the header of vsockmon, with virtio's own header and the payload", () => {
    const packet = encodeVsockPacket(bytes, Buffer.from("hello"));
    const expected = [
      "0300000000000000", // source CID
      "0200000000000000",
      "00040000",
      "88130000",
      "0400", // payload
      "0200", // virtio
      "2c00", // 44 bytes
      "0000",
      Buffer.from(bytes).toString("hex"),
      Buffer.from("hello").toString("hex"),
    ];
    assert.equal(Buffer.from(packet).toString("hex"), expected.join(""));
    assert.deepEqual(layoutFaults(VSOCKMON_HEADER), []);
  });

  it("comes back as it was written, with vsockmon's idea of its operation", () => {
    for (const [op, expected] of [
      [Op.REQUEST, VSOCKMON_OP.connect],
      [Op.RESPONSE, VSOCKMON_OP.connect],
      [Op.RST, VSOCKMON_OP.disconnect],
      [Op.SHUTDOWN, VSOCKMON_OP.disconnect],
      [Op.RW, VSOCKMON_OP.payload],
      [Op.CREDIT_UPDATE, VSOCKMON_OP.control],
      [99, VSOCKMON_OP.unknown],
    ] as const) {
      header.op = op;
      header.write(new DataView(bytes.buffer), 0);
      const packet = decodeVsockPacket(encodeVsockPacket(bytes, Buffer.from("hello")));
      if (typeof packet === "string") throw new Error(packet);
      assert.equal(packet.op, expected);
      assert.deepEqual(packet.header, header);
      assert.equal(Buffer.from(packet.payload).toString(), "hello");
    }
    assert.equal(typeof decodeVsockPacket(bytes), "string");
  });
});
