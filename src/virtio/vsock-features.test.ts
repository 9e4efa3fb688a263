import assert from "node:assert/strict";
import { test } from "node:test";
import { layoutFaults } from "./layout.js";
import { encodeVsockConfig, guestCidProblem, VSOCK_CONFIG } from "./vsock-features.js";

test("the configuration space is the guest's context id, little-endian, in 8 bytes", () => {
  assert.deepEqual(layoutFaults(VSOCK_CONFIG), []);
  assert.equal(Buffer.from(encodeVsockConfig(3n)).toString("hex"), "0300000000000000");
  assert.equal(Buffer.from(encodeVsockConfig(0xfffffffen)).toString("hex"), "feffffff00000000");
});

test("reserved context ids are refused with the reason", () => {
  assert.match(guestCidProblem(0n) ?? "", /hypervisor/);
  assert.match(guestCidProblem(1n) ?? "", /loopback/);
  assert.match(guestCidProblem(2n) ?? "", /host/);
  assert.match(guestCidProblem(0xffffffffn) ?? "", /VMADDR_CID_ANY/);
  assert.match(guestCidProblem(0x100000000n) ?? "", /32 bits/);
  assert.match(guestCidProblem(0xffffffffffffffffn) ?? "", /32 bits/);
  assert.match(guestCidProblem(-1n) ?? "", /negative/);
});

test("every other context id of 32 bits is a guest's", () => {
  for (const cid of [3n, 1024n, 0xfffffffen]) assert.equal(guestCidProblem(cid), undefined);
});
