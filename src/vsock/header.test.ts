import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { describePacket, HEADER_BYTES, HEADER_LAYOUT, Op, opName, PacketHeader } from "./header.js";
import type { Fields } from "./switch-rig.js";

const u16 = fc.integer({ min: 0, max: 0xffff });
const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const anyFields: fc.Arbitrary<Required<Fields>> = fc.record({
  srcCid: u32,
  srcCidHigh: u32,
  dstCid: u32,
  dstCidHigh: u32,
  srcPort: u32,
  dstPort: u32,
  len: u32,
  type: u16,
  op: u16,
  flags: u32,
  bufAlloc: u32,
  fwdCnt: u32,
});

function headerOf(fields: Fields): PacketHeader {
  return Object.assign(new PacketHeader(), fields);
}

/** Written from the table and the C struct alone: byte by byte, least significant first. */
function naiveBytes(fields: Required<Fields>): number[] {
  const values: Record<(typeof HEADER_LAYOUT)[number]["name"], bigint> = {
    srcCid: (BigInt(fields.srcCidHigh) << 32n) | BigInt(fields.srcCid),
    dstCid: (BigInt(fields.dstCidHigh) << 32n) | BigInt(fields.dstCid),
    srcPort: BigInt(fields.srcPort),
    dstPort: BigInt(fields.dstPort),
    len: BigInt(fields.len),
    type: BigInt(fields.type),
    op: BigInt(fields.op),
    flags: BigInt(fields.flags),
    bufAlloc: BigInt(fields.bufAlloc),
    fwdCnt: BigInt(fields.fwdCnt),
  };
  return HEADER_LAYOUT.flatMap(({ name, width }) =>
    Array.from({ length: width }, (_, index) => Number((values[name] >> BigInt(8 * index)) & 0xffn)),
  );
}

describe("the packet header's layout", () => {
  it("has no gap, no overlap, and ends after 44 bytes", () => {
    let end = 0;
    for (const { offset, width } of HEADER_LAYOUT) {
      assert.equal(offset, end);
      end += width;
    }
    assert.equal(end, HEADER_BYTES);
    assert.equal(HEADER_BYTES, 44);
  });

  it("has every field where virtio 1.4, 5.10.6 has it", () => {
    assert.deepEqual(
      HEADER_LAYOUT.map(({ name, offset }) => `${name}@${offset}`),
      [
        "srcCid@0",
        "dstCid@8",
        "srcPort@16",
        "dstPort@20",
        "len@24",
        "type@28",
        "op@30",
        "flags@32",
        "bufAlloc@36",
        "fwdCnt@40",
      ],
    );
  });
});

/** Memory that somebody else writes to all the time: no two reads of a byte give the same. Notes what was read. */
class ChangingMemory extends DataView<ArrayBuffer> {
  readonly reads: number[] = [];

  #note(offset: number, width: number): void {
    for (let byte = offset; byte < offset + width; byte++) this.reads.push(byte);
    super.setUint32(0, this.reads.length, true);
  }

  override getUint16(offset: number, littleEndian?: boolean): number {
    this.#note(offset, 2);
    return super.getUint16(offset, littleEndian);
  }

  override getUint32(offset: number, littleEndian?: boolean): number {
    this.#note(offset, 4);
    return super.getUint32(offset, littleEndian);
  }
}

describe("reading and writing a header", () => {
  it("reads each byte once, so that a guest that changes it meanwhile cannot make two values of one field", () => {
    const memory = new ChangingMemory(new ArrayBuffer(HEADER_BYTES));
    new PacketHeader().read(memory, 0);
    assert.deepEqual(
      memory.reads.sort((a, b) => a - b),
      Array.from({ length: HEADER_BYTES }, (_, byte) => byte),
    );
  });

  it("are each other's inverse at any offset, and touch no other byte", () => {
    fc.assert(
      fc.property(anyFields, fc.integer({ min: 0, max: 9 }), (fields, offset) => {
        const bytes = new Uint8Array(offset + HEADER_BYTES + 5).fill(0xee);
        const data = new DataView(bytes.buffer);
        headerOf(fields).write(data, offset);
        const read = new PacketHeader();
        read.read(data, offset);
        assert.deepEqual({ ...read }, { ...fields });
        assert.ok(bytes.subarray(0, offset).every((byte) => byte === 0xee));
        assert.ok(bytes.subarray(offset + HEADER_BYTES).every((byte) => byte === 0xee));
      }),
    );
  });

  it("agree with a naive encoder that follows the table", () => {
    fc.assert(
      fc.property(anyFields, (fields) => {
        const bytes = new Uint8Array(HEADER_BYTES);
        headerOf(fields).write(new DataView(bytes.buffer), 0);
        assert.deepEqual([...bytes], naiveBytes(fields));
      }),
    );
  });

  it("agree with bytes written by hand from the specification", () => {
    const golden =
      "0300000000000000 0200000000000000 00040000 88130000 0c000000 0100 0500 00000000 00000400 e8030000";
    const bytes = Buffer.from(golden.replaceAll(" ", ""), "hex");
    const header = new PacketHeader();
    header.read(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
    assert.equal(describePacket(header), "3:1024 -> 2:5000 STREAM RW len=12 buf_alloc=262144 fwd_cnt=1000");
  });
});

describe("the description of a packet", () => {
  it("names every operation, and others by number", () => {
    const names = [
      "INVALID",
      "REQUEST",
      "RESPONSE",
      "RST",
      "SHUTDOWN",
      "RW",
      "CREDIT_UPDATE",
      "CREDIT_REQUEST",
    ];
    assert.deepEqual(
      Object.entries(Op),
      names.map((name, value) => [name, value]),
    );
    for (const [value, name] of names.entries()) {
      assert.equal(opName(value), name);
      assert.match(describePacket(headerOf({ op: value })), new RegExp(` ${name}( |$)`));
    }
    assert.equal(opName(8), "op 8");
  });

  it("decodes flags, types and reserved halves of CIDs", () => {
    const text = (fields: Fields) => describePacket(headerOf({ type: 1, ...fields }));
    assert.match(text({ op: Op.SHUTDOWN, flags: 0 }), / SHUTDOWN none /);
    assert.match(text({ op: Op.SHUTDOWN, flags: 1 }), / SHUTDOWN no-receive /);
    assert.match(text({ op: Op.SHUTDOWN, flags: 7 }), / SHUTDOWN no-receive\+no-send\+0x4 /);
    assert.match(text({ op: Op.SHUTDOWN, flags: 0xffff_ffff }), /\+0xfffffffc /);
    assert.match(text({ op: Op.RW, flags: 3 }), / RW flags=0x3 /);
    assert.match(text({ type: 2 }), / SEQPACKET /);
    assert.match(text({ type: 9 }), / type 9 /);
    assert.match(text({ srcCid: 3, srcCidHigh: 1 }), /^0x100000003:/);
  });

  it("is one line for any header", () => {
    fc.assert(fc.property(anyFields, (fields) => !describePacket(headerOf(fields)).includes("\n")));
  });
});
