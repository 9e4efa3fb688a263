import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { layoutFaults } from "./layout.js";
import { encodeVsockConfig, GUEST_CIDS, guestCidProblem, VSOCK_CONFIG } from "./vsock-features.js";

test("the configuration space is the guest's context id, little-endian, in 8 bytes", () => {
  assert.deepEqual(layoutFaults(VSOCK_CONFIG), []);
  assert.equal(Buffer.from(encodeVsockConfig(3n)).toString("hex"), "0300000000000000");
  assert.equal(Buffer.from(encodeVsockConfig(0xfffffffen)).toString("hex"), "feffffff00000000");
});

test("reserved context ids are refused with the reason", () => {
  assert.match(guestCidProblem(0) ?? "", /hypervisor/);
  assert.match(guestCidProblem(1) ?? "", /loopback/);
  assert.match(guestCidProblem(2) ?? "", /host/);
  assert.match(guestCidProblem(0xffffffff) ?? "", /VMADDR_CID_ANY/);
  for (const cid of [2 ** 32, 2 ** 32 + 0.5, 2 ** 64, Number.POSITIVE_INFINITY]) {
    assert.match(guestCidProblem(cid) ?? "", /32 bits/);
  }
  for (const cid of [-1, 3.5, Number.NaN]) assert.match(guestCidProblem(cid) ?? "", /whole number/);
});

test("every other context id of 32 bits is a guest's", () => {
  const { first, last } = GUEST_CIDS;
  assert.deepEqual([guestCidProblem(first), guestCidProblem(last)], [undefined, undefined]);
  assert.ok(guestCidProblem(first - 1) && guestCidProblem(last + 1));
  fc.assert(fc.property(fc.integer({ min: first, max: last }), (cid) => guestCidProblem(cid) === undefined));
});
