import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { describeKernelRequest, describeKernelResult } from "./describe.js";
import type { KernelRequest, KernelResult } from "./requests.js";

const DONE: KernelResult = { ok: true, value: 0n };
const ADDRESSES = { desc: 0x7f00_0000_0000n, avail: 0x7f00_0000_1000n, used: 0x7f00_0000_2000n };
const REGION = { guestAddress: 0n, size: 0x1000n, userAddress: 0x7f00n, fd: 9, fileOffset: 0n };

/** A request with what it looks like. */
const LINES: readonly (readonly [KernelRequest, string])[] = [
  [{ name: "VHOST_SET_OWNER" }, "VHOST_SET_OWNER"],
  [
    { name: "VHOST_SET_FEATURES", features: 0x3_0000_0002n },
    "VHOST_SET_FEATURES 0x300000002 [VSOCK_SEQPACKET VERSION_1 ACCESS_PLATFORM]",
  ],
  [
    { name: "VHOST_SET_BACKEND_FEATURES", features: 6n },
    "VHOST_SET_BACKEND_FEATURES 0x6 [IOTLB_MSG_V2 IOTLB_BATCH]",
  ],
  [
    { name: "VHOST_SET_MEM_TABLE", regions: [REGION] },
    "VHOST_SET_MEM_TABLE regions=1; gpa=0x0 size=0x1000 user=0x7f00",
  ],
  [{ name: "VHOST_SET_VRING_NUM", index: 1, num: 256 }, "VHOST_SET_VRING_NUM q1 num=256"],
  [{ name: "VHOST_GET_VRING_BASE", index: 1 }, "VHOST_GET_VRING_BASE q1"],
  [
    { name: "VHOST_SET_VRING_ADDR", index: 0, addresses: ADDRESSES, log: 0n },
    "VHOST_SET_VRING_ADDR q0 desc=0x7f0000000000 used=0x7f0000002000 avail=0x7f0000001000 log=0x0",
  ],
  [{ name: "VHOST_SET_VRING_KICK", index: 0, fd: 17 }, "VHOST_SET_VRING_KICK q0"],
  [{ name: "VHOST_SET_VRING_ERR", index: 0, fd: -1 }, "VHOST_SET_VRING_ERR q0 no-fd"],
  [{ name: "VHOST_VSOCK_SET_GUEST_CID", cid: 3n }, "VHOST_VSOCK_SET_GUEST_CID 3"],
  [{ name: "VHOST_VSOCK_SET_RUNNING", running: true }, "VHOST_VSOCK_SET_RUNNING 1"],
];

/** What was asked, what came, and what that looks like. */
const RESULTS: readonly (readonly [KernelRequest, KernelResult, string])[] = [
  [{ name: "VHOST_VSOCK_SET_RUNNING", running: true }, DONE, "ok"],
  [{ name: "VHOST_VSOCK_SET_RUNNING", running: true }, { ok: false, errno: "EFAULT" }, "EFAULT"],
  [
    { name: "VHOST_GET_FEATURES" },
    { ok: true, value: 0x3_0000_0000n },
    "0x300000000 [VERSION_1 ACCESS_PLATFORM]",
  ],
  [{ name: "VHOST_GET_BACKEND_FEATURES" }, { ok: true, value: 2n }, "0x2 [IOTLB_MSG_V2]"],
  [{ name: "VHOST_GET_VRING_BASE", index: 1 }, { ok: true, value: 7n }, "7"],
];

describe("requests of kernel vhost, printed", () => {
  for (const [request, line] of LINES) {
    it(`${request.name} as ${line}`, () => assert.equal(describeKernelRequest(request), line));
  }
  for (const [request, result, line] of RESULTS) {
    it(`the result of ${request.name} as ${line}`, () =>
      assert.equal(describeKernelResult(request, result), line));
  }
});
