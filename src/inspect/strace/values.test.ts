import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Payload } from "../../vhost/wire/index.js";
import { requestIn } from "./messages.js";
import { argumentIn, payloadFromBytes, payloadFromText } from "./values.js";

const WORD: Payload = { kind: "u64", value: 0x3_0000_0000n };
const STATE: Payload = { kind: "vringState", index: 1, num: 256 };
const ADDR: Payload = {
  kind: "vringAddr",
  index: 1,
  flags: 0,
  desc: 0x1000n,
  used: 0x3000n,
  avail: 0x2000n,
  log: 0n,
};
const REGION = { guestAddress: 0x10_0000n, size: 0x1_0000n, userAddress: 0x7f00_0000n, mmapOffset: 0n };
const TABLE: Payload = { kind: "memTable", regions: [REGION] };

describe("a value written for a pointer", () => {
  const texts = [
    ["word", "[0x300000000]", WORD],
    ["word", "[12884901888]", WORD],
    ["word", "0x300000000", WORD],
    ["word", "[0] => [0x300000000]", WORD],
    ["word", '"\\x00\\x00\\x00\\x00\\x03\\x00\\x00\\x00"', WORD],
    ["int", "[1]", { kind: "u64", value: 1n }],
    ["vringState", "{index=1, num=256}", STATE],
    ["vringState", "{index=1, num=0 => 256}", STATE],
    ["vringState", "{index = 1, num = 256}", STATE],
    ["vringState", "{index=1, num=0x100}", STATE],
    [
      "vringAddr",
      "{index=1, flags=0, desc_user_addr=0x1000, used_user_addr=0x3000, avail_user_addr=0x2000, log_guest_addr=0}",
      ADDR,
    ],
    ["vringFile", "{index=1, fd=9<anon_inode:[eventfd]>}", { kind: "vringFd", index: 1, noFd: false }],
    ["vringFile", "{index=1, fd=-1}", { kind: "vringFd", index: 1, noFd: true }],
    [
      "memory",
      "{nregions=1, padding=0, regions=[{guest_phys_addr=0x100000, memory_size=0x10000, userspace_addr=0x7f000000, flags_padding=0}]}",
      TABLE,
    ],
    [
      "memory",
      "{nregions = 1, padding = 0, regions = {{guest_phys_addr = 1048576, memory_size = 65536, userspace_addr = 2130706432, flags_padding = 0}}}",
      TABLE,
    ],
  ] as const;
  for (const [argument, text, payload] of texts) {
    it(`${argument} ${text}`, () => assert.deepEqual(payloadFromText(argument, text), payload));
  }

  it("that is not of its kind, or not whole, is none", () => {
    const wrong = [
      ["word", "{index=1, num=2}"],
      ["word", "[0x3"],
      ["word", '"\\x01"'],
      ["vringState", "{index=1}"],
      ["vringState", "[3]"],
      ["memory", "{nregions=2, regions=[{guest_phys_addr=0, memory_size=1, userspace_addr=2}]}"],
      ["memory", "{nregions = 1, padding = 0, regions = 0x7ffd10}"],
      ["none", "[1]"],
    ] as const;
    for (const [argument, text] of wrong) assert.equal(payloadFromText(argument, text), undefined, text);
  });

  it("stands for the pointer, or behind it", () => {
    assert.deepEqual(argumentIn("0x7ffd10"), { pointer: 0x7ffd10n, text: undefined });
    assert.deepEqual(argumentIn("0x7ffd10 /* [0x3] */"), { pointer: 0x7ffd10n, text: "[0x3]" });
    assert.deepEqual(argumentIn("0x7ffd10 => [0x3]"), { pointer: 0x7ffd10n, text: "[0x3]" });
    assert.deepEqual(argumentIn("[0x3]"), { pointer: undefined, text: "[0x3]" });
    assert.deepEqual(argumentIn("NULL"), { pointer: 0n, text: undefined });
  });

  it("may be its bytes, of which more can be shown than belong to it", () => {
    const bytes = new Uint8Array(48);
    bytes.set([1, 0, 0, 0, 0, 1, 0, 0]);
    assert.deepEqual(payloadFromBytes("vringState", bytes), STATE);
    assert.equal(payloadFromBytes("vringState", bytes.subarray(0, 7)), undefined);
    bytes.set([255, 255, 255, 255], 4);
    assert.deepEqual(payloadFromBytes("vringFile", bytes), { kind: "vringFd", index: 1, noFd: true });
    assert.equal(payloadFromBytes("memory", new Uint8Array(8).fill(255)), undefined);
  });
});

describe("a request of vhost", () => {
  const requests = [
    ["VHOST_SET_FEATURES", "VHOST_SET_FEATURES"],
    ["0x4008af00", "VHOST_SET_FEATURES"],
    ["0x8008af00", "VHOST_GET_FEATURES"],
    ["0xc008af12", "VHOST_GET_VRING_BASE"],
    ["0x4008af12", "VHOST_SET_VRING_BASE"],
    ["0xaf01", "VHOST_SET_OWNER"],
    ["0x4004af61 /* VHOST_VSOCK_SET_RUNNING */", "VHOST_VSOCK_SET_RUNNING"],
    ["SOMETHING_ELSE or VHOST_SET_OWNER", "VHOST_SET_OWNER"],
    ["_IOC(_IOC_WRITE, 0xaf, 0x61, 0x4)", "VHOST_VSOCK_SET_RUNNING"],
    ["_IOC(_IOC_READ|_IOC_WRITE, 0xaf, 0x12, 0x8)", "VHOST_GET_VRING_BASE"],
    ["_IOC(_IOC_NONE, 0xaf, 0x1, 0)", "VHOST_SET_OWNER"],
    ["_IOC(_IOC_WRITE, 0xaf, 0xee, 0x8)", "_IOC(_IOC_WRITE, 0xaf, 0xee, 0x8)"],
  ] as const;
  for (const [text, name] of requests) it(`${text}`, () => assert.equal(requestIn(text)?.name, name));

  it("is none of another type", () => {
    for (const text of ["KVM_RUN", "0xae80", "_IOC(_IOC_READ, 0xae, 0x0, 0x8)", "TCGETS"])
      assert.equal(requestIn(text), undefined, text);
  });
});
