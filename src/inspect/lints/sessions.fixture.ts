/** For the test of lints: for each a session that has what it is about, and one that is next to it and right. */

import { encodeFrame, IOTLB_TYPE } from "../../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F, STATUS, viewOf } from "../../virtio/index.js";
import { Op, SocketType } from "../../vsock/header.js";
import { START_NS } from "../frames.fixture.js";
import type { SessionMessage } from "../message.js";
import type { LintId } from "./index.js";
import { DESC, IOVA, OFFER, PROTOCOL, REGION, TAKEN, TAKEN_33, type Talk, USER } from "./talk.fixture.js";

export type Saying = (talk: Talk) => unknown;

/** Each lint with a session that has what it is about, and one that is next to it and right. */
export const SESSIONS: Readonly<Record<LintId, { readonly wrong: Saying; readonly right: Saying }>> = {
  "feature-not-offered": {
    wrong: (t) => t.begin(OFFER).features(TAKEN | maskOf(F.IN_ORDER)),
    right: (t) => t.begin(OFFER | maskOf(F.IN_ORDER)).features(TAKEN | maskOf(F.IN_ORDER)),
  },
  "access-platform-not-offered": {
    wrong: (t) => t.begin(OFFER & ~maskOf(F.ACCESS_PLATFORM)).features(TAKEN_33),
    right: (t) => t.begin(OFFER).features(TAKEN_33),
  },
  "ring-packed-not-offered": {
    wrong: (t) => t.begin(OFFER & ~maskOf(F.RING_PACKED)).features(TAKEN | maskOf(F.RING_PACKED)),
    right: (t) => t.begin(OFFER).features(TAKEN | maskOf(F.RING_PACKED)),
  },
  "log-all-not-offered": {
    wrong: (t) => t.begin(OFFER & ~maskOf(F.LOG_ALL)).features(TAKEN | maskOf(F.LOG_ALL)),
    right: (t) => t.begin(OFFER).features(TAKEN | maskOf(F.LOG_ALL)),
  },
  "features-before-offer": {
    wrong: (t) => {
      t.say(t.make.request("SET_OWNER"));
      t.features();
    },
    right: (t) => t.begin().features(),
  },
  "bit33-needs-channel": {
    wrong: (t) => t.begin(OFFER, PROTOCOL & ~maskOf(PROTOCOL_F.BACKEND_REQ)),
    right: (t) => t.begin(OFFER & ~maskOf(F.ACCESS_PLATFORM), PROTOCOL & ~maskOf(PROTOCOL_F.BACKEND_REQ)),
  },
  "bit33-not-offered": {
    wrong: (t) => t.begin(OFFER & ~maskOf(F.ACCESS_PLATFORM)),
    right: (t) => t.begin(OFFER),
  },
  "protocol-features-dropped": {
    wrong: (t) => t.begin().features(TAKEN & ~maskOf(F.PROTOCOL_FEATURES)),
    right: (t) => t.begin().features(),
  },
  "features-changed-while-running": {
    wrong: (t) => t.run().features(TAKEN | maskOf(F.INDIRECT_DESC)),
    right: (t) => t.run().features(TAKEN | maskOf(F.LOG_ALL)),
  },
  "log-all-toggled": {
    wrong: (t) => t.run().features(TAKEN | maskOf(F.LOG_ALL)),
    right: (t) => t.begin().features(TAKEN | maskOf(F.LOG_ALL)),
  },
  "in-order-acknowledged": {
    wrong: (t) => t.begin(OFFER | maskOf(F.IN_ORDER)).features(TAKEN | maskOf(F.IN_ORDER)),
    right: (t) => t.begin(OFFER | maskOf(F.IN_ORDER)).features(TAKEN),
  },
  "version-1-missing": {
    wrong: (t) => t.begin().features(TAKEN & ~maskOf(F.VERSION_1)),
    right: (t) => t.begin().features(),
  },
  "suspend-bit-moved": {
    wrong: (t) => t.begin(OFFER | maskOf(F.SUSPEND_CROSVM)),
    right: (t) => t.begin(OFFER | maskOf(F.SUSPEND)),
  },
  "protocol-feature-not-offered": {
    wrong: (t) => t.begin(OFFER, PROTOCOL, PROTOCOL | maskOf(PROTOCOL_F.DEVICE_STATE)),
    right: (t) => t.begin(OFFER, PROTOCOL | maskOf(PROTOCOL_F.DEVICE_STATE)),
  },
  "inband-needs-channel": {
    wrong: (t) => t.begin(OFFER, PROTOCOL | INBAND, INBAND | maskOf(PROTOCOL_F.REPLY_ACK)),
    right: (t) => t.begin(OFFER, PROTOCOL | INBAND),
  },
  "base-inflight-needs-inflight": {
    wrong: (t) => t.begin(OFFER, PROTOCOL | BASE_INFLIGHT),
    right: (t) => t.begin(OFFER, PROTOCOL | BASE_INFLIGHT | maskOf(PROTOCOL_F.INFLIGHT_SHMFD)),
  },
  "protocol-bit-21-moved": {
    wrong: (t) => t.begin(OFFER, PROTOCOL | GPA),
    right: (t) => t.begin(OFFER, PROTOCOL | GPA | maskOf(PROTOCOL_F.SHMEM)),
  },
  "shmem-by-former-number": {
    wrong: (t) => t.begin(OFFER, PROTOCOL | GPA).say(t.make.request("GET_SHMEM_CONFIG")),
    right: (t) =>
      t.begin(OFFER, PROTOCOL | GPA | maskOf(PROTOCOL_F.SHMEM)).say(t.make.request("GET_SHMEM_CONFIG")),
  },
  "xen-mmap-without-fields": {
    wrong: (t) => t.begin(OFFER, PROTOCOL | XEN).memory(REGION),
    right: (t) => t.begin(OFFER, PROTOCOL | XEN).memory({ ...REGION, xen: { flags: 0, domid: 0 } }),
  },
  "log-all-without-base": {
    wrong: (t) => t.begin().features(TAKEN | maskOf(F.LOG_ALL)),
    right: (t) => {
      t.begin().features(TAKEN | maskOf(F.LOG_ALL));
      t.say(t.make.request("SET_LOG_BASE", { kind: "log", size: 4096n, offset: 0n }, { fds: 1 }));
    },
  },
  "status-failed": {
    wrong: (t) => status(t.run(), BigInt(STATUS.FAILED)),
    right: (t) => status(t.run(), BigInt(STATUS.DRIVER_OK)),
  },
  "features-ok-not-kept": {
    wrong: (t) => keepsStatus(t.begin().features(), 8n, 0n),
    right: (t) => keepsStatus(t.begin().features(), 8n, 8n),
  },
  "bit33-without-iotlb": {
    wrong: (t) => t.begin().channel().features(TAKEN_33).memory(REGION).ring().wait(2),
    right: (t) => t.runTranslated().wait(2),
  },
  "miss-unanswered": {
    wrong: (t) => t.runTranslated().miss(0x5000n).wait(2),
    right: (t) => t.runTranslated().miss(0x5000n).update(0x5000n).wait(2),
  },
  "miss-deadlock": {
    wrong: (t) => {
      t.runTranslated().miss(0x5000n);
      t.say(t.make.request("IOTLB_MSG", t.iotlb(IOTLB_TYPE.UPDATE, 0x5000n, 0x1000n), { needReply: true }));
      t.wait(2);
    },
    right: (t) => t.runTranslated().miss(0x5000n).update(0x5000n).wait(2),
  },
  "iotlb-overflow": {
    wrong: (t) => mapPages(t.runTranslated(), 2048),
    right: (t) => mapPages(t.runTranslated(), 2047),
  },
  "miss-refused": {
    wrong: (t) => t.runTranslated().miss(0x5000n).say(t.make.answer("IOTLB_MSG", 1n)),
    right: (t) => t.runTranslated().miss(0x5000n).update(0x5000n).say(t.make.answer("IOTLB_MSG", 0n)),
  },
  "iotlb-without-bit33": {
    wrong: (t) => t.run().update(),
    right: (t) => t.runTranslated().update(),
  },
  "iotlb-type-misplaced": {
    wrong: (t) => t.runTranslated().miss(0n, IOTLB_TYPE.UPDATE),
    right: (t) => t.runTranslated().miss(0n, IOTLB_TYPE.MISS),
  },
  "access-fail-sent": {
    wrong: (t) => t.runTranslated().miss(IOVA, IOTLB_TYPE.ACCESS_FAIL),
    right: (t) => t.runTranslated().miss(IOVA),
  },
  "update-outside-memory": {
    wrong: (t) => t.runTranslated().update(0x9000n, 0x2000n, USER + REGION.size - 0x1000n),
    right: (t) => t.runTranslated().update(0x9000n, 0x1000n, USER + REGION.size - 0x1000n),
  },
  "update-empty": {
    wrong: (t) => t.runTranslated().update(0x9000n, 0n),
    right: (t) => t.runTranslated().update(0x9000n, 1n),
  },
  "update-wraps": {
    wrong: (t) => t.runTranslated().update(LAST_PAGE, 0x1001n),
    right: (t) => t.runTranslated().update(LAST_PAGE, 0x1000n),
  },
  "invalidate-wraps": {
    wrong: (t) => t.runTranslated().invalidate(LAST_PAGE, 0x2000n),
    right: (t) => t.runTranslated().invalidate(LAST_PAGE, 0x1000n).invalidate(0n, 0n),
  },
  "translation-switched-under-rings": {
    wrong: (t) => {
      t.begin().channel().memory(REGION).state("SET_VRING_NUM", 0, 128).addr(0, DESC).features(TAKEN_33);
      t.bell("SET_VRING_KICK", 0).state("SET_VRING_ENABLE", 0, 1);
    },
    right: (t) => t.run().stopRing().features(TAKEN_33).ring(0, IOVA),
  },
  "translated-without-channel": {
    wrong: (t) => t.begin().features(TAKEN_33).memory(REGION).ring(0, IOVA),
    right: (t) => t.begin().channel().features(TAKEN_33).memory(REGION).ring(0, IOVA),
  },
  "kernel-used-ring-unmapped": {
    wrong: (t) => runKernel(t.begin().features(TAKEN_33).memory(REGION).addr(0, IOVA)),
    right: (t) => runKernel(t.begin().features(TAKEN_33).memory(REGION).addr(0, IOVA).update()),
  },
  "region-empty": {
    wrong: (t) => t.begin().memory({ ...REGION, size: 0n }),
    right: (t) => t.begin().memory(REGION),
  },
  "region-wraps": {
    wrong: (t) => t.begin().memory({ ...REGION, guestAddress: LAST_PAGE, size: 0x2000n }),
    right: (t) => t.begin().memory({ ...REGION, guestAddress: LAST_PAGE, size: 0x1000n }),
  },
  "region-unaligned": {
    wrong: (t) => t.begin().memory({ ...REGION, size: 0x1234n }),
    right: (t) => t.begin().memory(REGION),
  },
  "regions-overlap": {
    wrong: (t) =>
      t
        .begin()
        .memory(REGION)
        .region("ADD_MEM_REG", { ...SECOND, guestAddress: REGION.size - 0x1000n }),
    right: (t) => t.begin().memory(REGION).region("ADD_MEM_REG", SECOND),
  },
  "user-ranges-overlap": {
    wrong: (t) => t.begin().memory(REGION, { ...SECOND, userAddress: USER }),
    right: (t) => t.begin().memory(REGION, SECOND),
  },
  "region-unknown": {
    wrong: (t) => t.begin().memory(REGION).region("REM_MEM_REG", SECOND),
    right: (t) => t.begin().memory(REGION, SECOND).region("REM_MEM_REG", SECOND),
  },
  "too-many-slots": {
    wrong: (t) => slots(t.begin(), 1n).region("ADD_MEM_REG", REGION).region("ADD_MEM_REG", SECOND),
    right: (t) => slots(t.begin(), 2n).region("ADD_MEM_REG", REGION).region("ADD_MEM_REG", SECOND),
  },
  "table-without-regions": {
    wrong: (t) => t.begin().memory(),
    right: (t) => t.begin().memory(REGION),
  },
  "ring-size": {
    wrong: (t) => t.begin().features().state("SET_VRING_NUM", 0, 100),
    right: (t) =>
      t
        .begin()
        .features(TAKEN | maskOf(F.RING_PACKED))
        .state("SET_VRING_NUM", 0, 100),
  },
  "ring-index": {
    wrong: (t) => queues(t.begin(), 2n).state("SET_VRING_NUM", 5, 128),
    right: (t) => queues(t.begin(), 2n).state("SET_VRING_NUM", 2, 128),
  },
  "ring-not-set-up": {
    wrong: (t) =>
      t.begin().features().memory(REGION).bell("SET_VRING_KICK", 0).state("SET_VRING_ENABLE", 0, 1),
    right: (t) => t.run(),
  },
  "ring-without-memory": {
    wrong: (t) => t.begin().features().ring(),
    right: (t) => t.begin().features().memory(REGION).ring(),
  },
  "ring-outside-memory": {
    wrong: (t) => t.begin().features().memory(REGION).ring(0, IOVA),
    right: (t) => t.begin().channel().features(TAKEN_33).memory(REGION).ring(0, IOVA),
  },
  "ring-address-wrong-space": {
    wrong: (t) => t.begin().features().memory(REGION).ring(0, 0x10_0000n),
    right: (t) =>
      t
        .begin(OFFER, PROTOCOL | GPA)
        .features()
        .memory(REGION)
        .ring(0, 0x10_0000n),
  },
  "ring-crosses-region": {
    wrong: (t) =>
      t
        .begin()
        .features()
        .memory(REGION)
        .ring(0, USER + REGION.size - 0x950n),
    right: (t) =>
      t
        .begin()
        .features()
        .memory(REGION)
        .ring(0, USER + REGION.size - 0x1000n),
  },
  "ring-misaligned": {
    wrong: (t) =>
      t
        .begin()
        .features()
        .memory(REGION)
        .ring(0, DESC + 8n),
    right: (t) =>
      t
        .begin()
        .features()
        .memory(REGION)
        .ring(0, DESC + 16n),
  },
  "ring-areas-overlap": {
    wrong: (t) => overlapping(t, 0x7f0n),
    right: (t) => overlapping(t, 0x800n),
  },
  "ring-changed-while-started": {
    wrong: (t) => t.run().state("SET_VRING_NUM", 0, 256),
    right: (t) => t.run().stopRing().state("SET_VRING_NUM", 0, 256),
  },
  "ring-moved-while-running": {
    wrong: (t) => t.run().addr(0, DESC + 0x1_0000n),
    right: (t) => t.run().addr(0, DESC, { flags: 1, log: 0x1000n }),
  },
  "ring-started-disabled": {
    wrong: (t) => t.run(),
    right: (t) =>
      t.begin().features().memory(REGION).state("SET_VRING_ENABLE", 0, 1).bell("SET_VRING_KICK", 0),
  },
  "ring-never-enabled": {
    wrong: (t) => t.begin().features().memory(REGION).bell("SET_VRING_KICK", 0).wait(2),
    right: (t) => t.run().wait(2),
  },
  "ring-without-call": {
    wrong: (t) => {
      t.begin().features().memory(REGION).state("SET_VRING_NUM", 0, 128).addr(0, DESC);
      t.bell("SET_VRING_KICK", 0).state("SET_VRING_ENABLE", 0, 1);
    },
    right: (t) => t.run(),
  },
  "owner-missing": {
    wrong: (t) => {
      t.say(t.make.request("GET_FEATURES"));
      t.features().memory(REGION).ring();
    },
    right: (t) => t.run(),
  },
  "split-base-too-large": {
    wrong: (t) => t.begin().features().state("SET_VRING_BASE", 0, 0x1_0000),
    right: (t) => t.begin().features().state("SET_VRING_BASE", 0, 0xffff),
  },
  "packed-base-as-split": {
    wrong: (t) =>
      t
        .begin()
        .features(TAKEN | maskOf(F.RING_PACKED))
        .state("SET_VRING_BASE", 0, 0),
    right: (t) =>
      t
        .begin()
        .features(TAKEN | maskOf(F.RING_PACKED))
        .state("SET_VRING_BASE", 0, 0x8000_8000),
  },
  "base-not-taken-up": {
    wrong: (t) => t.run().stopRing(0, 7).ring(0, DESC, 9),
    right: (t) => t.run().stopRing(0, 7).ring(0, DESC, 7),
  },
  "ring-lost-its-memory": {
    wrong: (t) => t.begin().features().memory(REGION, SECOND).ring().region("REM_MEM_REG", REGION),
    right: (t) => t.begin().features().memory(REGION, SECOND).ring().region("REM_MEM_REG", SECOND),
  },
  "message-not-negotiated": {
    wrong: (t) => slots(t.begin(OFFER, PROTOCOL & ~maskOf(PROTOCOL_F.CONFIGURE_MEM_SLOTS)), 4n),
    right: (t) => slots(t.begin(), 4n),
  },
  "unknown-message": {
    wrong: (t) => t.say(t.make.raw("main", "to-backend", encodeFrame(77, 0, { kind: "none" }))),
    right: (t) => t.say(t.make.request("GPU_SET_SOCKET", undefined, { fds: 1 })),
  },
  "payload-malformed": {
    wrong: (t) =>
      t.say(t.make.raw("main", "to-backend", encodeFrame(8, 0, { kind: "u64", value: 0n }).slice(0, 19))),
    right: (t) => t.say(t.make.raw("main", "to-backend", encodeFrame(8, 0, { kind: "u64", value: 0n }))),
  },
  "descriptor-count": {
    wrong: (t) => t.say(t.make.request("SET_VRING_KICK", { kind: "vringFd", index: 0, noFd: false })),
    right: (t) => t.say(t.make.request("SET_VRING_KICK", { kind: "vringFd", index: 0, noFd: true })),
  },
  "reserved-flags": {
    wrong: (t) => t.say(t.make.raw("main", "to-backend", encodeFrame(3, 0x10, { kind: "none" }))),
    right: (t) => t.say(t.make.raw("main", "to-backend", encodeFrame(3, 0x8, { kind: "none" }))),
  },
  "reply-without-request": {
    wrong: (t) => t.begin().say(t.make.ack("SET_OWNER")),
    right: (t) => {
      t.begin().say(t.make.request("SET_OWNER", undefined, { needReply: true }));
      t.say(t.make.ack("SET_OWNER"));
    },
  },
  "reply-in-wrong-direction": {
    wrong: (t) => t.say(t.make.raw("main", "to-backend", encodeFrame(3, 4, { kind: "u64", value: 0n }))),
    right: (t) => t.begin(),
  },
  "need-reply-ignored": {
    wrong: (t) => {
      t.begin().say(t.make.request("SET_OWNER", undefined, { needReply: true }));
      queues(t, 2n);
    },
    right: (t) => {
      t.begin().say(t.make.request("SET_OWNER", undefined, { needReply: true }));
      t.say(t.make.ack("SET_OWNER"));
      queues(t, 2n);
    },
  },
  "reply-missing": {
    wrong: (t) => {
      t.begin().say(t.make.request("GET_QUEUE_NUM"));
      t.wait(11);
    },
    right: (t) => queues(t.begin(), 2n).wait(11),
  },
  "need-reply-not-negotiated": {
    wrong: (t) => t.begin(OFFER, 0n).say(t.make.request("SET_OWNER", undefined, { needReply: true })),
    right: (t) => t.begin().say(t.make.request("SET_OWNER", undefined, { needReply: true })),
  },
  "request-refused": {
    wrong: (t) => acked(t, 1n),
    right: (t) => acked(t, 0n),
  },
  "config-refused": {
    wrong: (t) => {
      readsConfig(t, 0);
      t.say(t.make.reply("GET_CONFIG", { kind: "none" }));
    },
    right: (t) => {
      readsConfig(t, 0);
      t.say(t.make.reply("GET_CONFIG", config(8, 0)));
    },
  },
  "config-reply-size": {
    wrong: (t) => {
      readsConfig(t, 0);
      t.say(t.make.reply("GET_CONFIG", config(4, 0)));
    },
    right: (t) => {
      readsConfig(t, 0);
      t.say(t.make.reply("GET_CONFIG", config(8, 0)));
    },
  },
  "config-write-flags": {
    wrong: (t) => t.begin().say(t.make.request("SET_CONFIG", config(8, 1))),
    right: (t) => t.begin().say(t.make.request("SET_CONFIG", config(8, 0))),
  },
  "config-read-flags": {
    wrong: (t) => readsConfig(t, 1),
    right: (t) => readsConfig(t, 0),
  },
  "owner-again": {
    wrong: (t) => t.run().say(t.make.request("SET_OWNER")),
    right: (t) => t.run(),
  },
  "reset-owner-used": {
    wrong: (t) => t.begin().say(t.make.request("RESET_OWNER")),
    right: (t) => t.begin().say(t.make.request("RESET_DEVICE")),
  },
  "stream-broken": {
    wrong: (t) => t.session.remark({ timeNs: START_NS, text: "no vhost-user", isGap: true, isBroken: true }),
    right: (t) => t.session.remark({ timeNs: START_NS, text: "something was missed", isGap: true }),
  },
  "vsock-dgram-bit": {
    wrong: (t) => t.begin(OFFER | maskOf(3)),
    right: (t) => t.begin(OFFER | maskOf(2)),
  },
  "vsock-without-config": {
    wrong: (t) => t.begin(OFFER, PROTOCOL & ~maskOf(PROTOCOL_F.CONFIG)),
    right: (t) => t.begin(),
  },
  "vsock-event-queue-kept": {
    wrong: (t) => t.run().ring(1).wait(2),
    right: (t) => t.run().ring(1).ring(2).wait(2),
  },
  "kernel-guest-cid": {
    wrong: (t) => calls(t, "VHOST_VSOCK_SET_GUEST_CID", 2n),
    right: (t) => calls(t, "VHOST_VSOCK_SET_GUEST_CID", 3n),
  },
  "vsock-packet-type": {
    wrong: (t) => t.run().packet("to-device", { type: 3 }),
    right: (t) => t.run().packet("to-device", { type: SocketType.SEQPACKET }),
  },
  "vsock-packet-op": {
    wrong: (t) => t.run().packet("to-guest", { op: 0 }),
    right: (t) => t.run().packet("to-guest", { op: Op.CREDIT_REQUEST }),
  },
  "vsock-cid-upper-bits": {
    wrong: (t) => t.run().packet("to-device", { dstCidHigh: 1 }),
    right: (t) => t.run().packet("to-device", { dstCid: 0xffff_fffe }),
  },
  "vsock-foreign-cid": {
    wrong: (t) => guestOf(t, 3n).packet("to-guest", { dstCid: 4 }),
    right: (t) => guestOf(t, 3n).packet("to-guest", { srcCid: 4 }),
  },
  "ring-used-unknown": {
    wrong: (t) => t.run().fault("used-unknown"),
    right: (t) => t.run().fault("outside-memory"),
  },
  "ring-used-ahead": {
    wrong: (t) => t.run().fault("indices"),
    right: (t) => t.run().fault("used-unknown"),
  },
  "ring-buffer-outside-memory": {
    wrong: (t) => t.run().fault("outside-memory"),
    right: (t) => t.run().fault("indices"),
  },
  "left-before-start": {
    wrong: (t) => t.begin(),
    right: (t) => t.run(),
  },
};

const INBAND = maskOf(PROTOCOL_F.INBAND_NOTIFICATIONS);
const BASE_INFLIGHT = maskOf(PROTOCOL_F.GET_VRING_BASE_INFLIGHT);
const GPA = maskOf(PROTOCOL_F.GPA_ADDRESSES);
const XEN = maskOf(PROTOCOL_F.XEN_MMAP);
const LAST_PAGE = 2n ** 64n - 0x1000n;
export const SECOND = {
  guestAddress: 0x1_0000_0000n,
  size: 0x1000_0000n,
  userAddress: USER + 0x1_0000_0000n,
  mmapOffset: 0n,
};

function mapPages(talk: Talk, count: number): void {
  for (let page = 0; page < count; page++) talk.update(BigInt(page) * 0x1000n);
}

function status(talk: Talk, value: bigint): void {
  talk.say(talk.make.request("SET_STATUS", { kind: "u64", value }));
}

function keepsStatus(talk: Talk, set: bigint, kept: bigint): void {
  status(talk, set);
  talk.say(talk.make.request("GET_STATUS"));
  talk.say(talk.make.reply("GET_STATUS", { kind: "u64", value: kept }));
}

function slots(talk: Talk, value: bigint): Talk {
  talk.say(talk.make.request("GET_MAX_MEM_SLOTS"));
  talk.say(talk.make.reply("GET_MAX_MEM_SLOTS", { kind: "u64", value }));
  return talk;
}

export function queues(talk: Talk, value: bigint): Talk {
  talk.say(talk.make.request("GET_QUEUE_NUM"));
  talk.say(talk.make.reply("GET_QUEUE_NUM", { kind: "u64", value }));
  return talk;
}

function overlapping(talk: Talk, availOffset: bigint): void {
  talk.begin().features().memory(REGION).state("SET_VRING_NUM", 0, 128);
  talk
    .addr(0, DESC, { avail: DESC + availOffset })
    .bell("SET_VRING_KICK", 0)
    .state("SET_VRING_ENABLE", 0, 1);
}

function acked(talk: Talk, result: bigint): void {
  talk.begin().say(talk.make.request("SET_OWNER", undefined, { needReply: true }));
  talk.say(talk.make.ack("SET_OWNER", result));
}

export function config(bytes: number, flags: number) {
  return { kind: "config", offset: 0, flags, data: new Uint8Array(bytes) } as const;
}

function readsConfig(talk: Talk, flags: number): void {
  talk.begin().say(talk.make.request("GET_CONFIG", config(8, flags)));
}

/** A session in which the device says which guest it is for. */
function guestOf(talk: Talk, cid: bigint): Talk {
  const data = new Uint8Array(8);
  viewOf(data).setBigUint64(0, cid, true);
  const payload = { kind: "config", offset: 0, flags: 0, data } as const;
  talk.run().say(talk.make.request("GET_CONFIG", payload));
  talk.say(talk.make.reply("GET_CONFIG", payload));
  return talk;
}

/** The system call as a trace tells it. */
function calls(talk: Talk, name: string, value: bigint): void {
  const call: SessionMessage = {
    timeNs: talk.make.nowNs,
    channel: "main",
    direction: "to-backend",
    isReply: false,
    needReply: false,
    request: 0,
    name,
    record: undefined,
    payload: { kind: "u64", value },
    problem: undefined,
    flags: 1,
    descriptorCount: 0,
    descriptorKinds: undefined,
    byteLength: 0,
  };
  talk.session.message(call);
}

function runKernel(talk: Talk): void {
  calls(talk, "VHOST_VSOCK_SET_RUNNING", 1n);
}
