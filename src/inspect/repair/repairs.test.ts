import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { decodeHeader, IOTLB_TYPE, type Payload } from "../../vhost/wire/index.js";
import { F, maskOf, PROTOCOL_F } from "../../virtio/index.js";
import type { SessionFrame } from "../frame.js";
import { FrameMaker } from "../frames.fixture.js";
import { messageOf } from "../message.js";
import type { Rewriting } from "../relay/rewriter.js";
import { NO_REPAIRS, type Repairs, repairing } from "./repairs.js";

const USER = 0x7f00_0000_0000n;
const REGION = { guestAddress: 0x1000n, size: 0x10_0000n, userAddress: USER, mmapOffset: 0n };
const OFFER = maskOf(F.PROTOCOL_FEATURES, F.VERSION_1, F.ACCESS_PLATFORM);

/** A rewriter with what it said and injected. */
class Bench {
  readonly make = new FrameMaker();
  readonly injected: string[] = [];
  readonly remarks: string[] = [];
  readonly #rewrite: (frame: SessionFrame) => Rewriting;

  constructor(repairs: Partial<Repairs>) {
    const made = repairing({ ...NO_REPAIRS, ...repairs })?.({
      inject: (channel, direction, bytes) => {
        const { name, isReply, payload } = messageOf({
          timeNs: 0n,
          channel,
          direction,
          bytes,
          descriptorCount: 0,
        });
        this.injected.push(`${direction} ${name}${isReply ? " reply" : ""} ${textOf(payload)}`);
        return true;
      },
      remark: (text) => this.remarks.push(text),
    });
    assert.ok(made !== undefined);
    this.#rewrite = ({ channel, direction, bytes, descriptorCount }) =>
      made.rewrite({ channel, direction, bytes, fds: new Array(descriptorCount).fill(-1) });
  }

  /** The word as it goes on. */
  word(frame: SessionFrame): bigint {
    const rewriting = this.#rewrite(frame);
    assert.notEqual(rewriting.kind, "drop");
    const bytes = rewriting.kind === "replace" ? rewriting.bytes : frame.bytes;
    assert.deepEqual(decodeHeader(bytes), decodeHeader(frame.bytes));
    const { payload } = messageOf({ ...frame, bytes });
    assert.ok(payload?.kind === "u64");
    return payload.value;
  }

  kind(frame: SessionFrame): Rewriting["kind"] {
    return this.#rewrite(frame).kind;
  }

  /** A front-end that acknowledges bit 33 and means the DMA API. */
  start(desc = USER + 0x1000n): this {
    const { make } = this;
    const needs = maskOf(PROTOCOL_F.REPLY_ACK, PROTOCOL_F.BACKEND_REQ);
    for (const frame of [
      make.request("SET_PROTOCOL_FEATURES", { kind: "u64", value: needs }),
      make.request("SET_BACKEND_REQ_FD", undefined, { fds: 1 }),
      make.request("SET_FEATURES", { kind: "u64", value: OFFER }),
      make.request("SET_MEM_TABLE", { kind: "memTable", regions: [REGION] }, { fds: 1 }),
      make.request("SET_VRING_ADDR", {
        kind: "vringAddr",
        index: 0,
        flags: 0,
        desc,
        avail: desc + 0x800n,
        used: desc + 0x940n,
        log: 0n,
      }),
      make.request("SET_VRING_KICK", { kind: "vringFd", index: 0, noFd: false }, { fds: 1 }),
    ]) {
      assert.equal(this.kind(frame), "pass");
    }
    return this;
  }

  miss(iova: bigint): Rewriting["kind"] {
    const payload = {
      kind: "iotlb",
      type: IOTLB_TYPE.MISS,
      iova,
      size: 0n,
      userAddress: 0n,
      perm: 1,
    } as const;
    return this.kind(this.make.ask("IOTLB_MSG", payload, { needReply: true }));
  }
}

function textOf(payload: Payload | undefined): string {
  if (payload?.kind === "u64") return String(payload.value);
  if (payload?.kind !== "iotlb") return "";
  const type = payload.type === IOTLB_TYPE.UPDATE ? "UPDATE" : "INVALIDATE";
  return `${type} ${payload.iova.toString(16)}+${payload.size.toString(16)} to ${payload.userAddress.toString(16)}`;
}

const TWICE = [
  "to-backend IOTLB_MSG UPDATE 1000+100000 to 7f0000000000",
  "to-backend IOTLB_MSG UPDATE 7f0000000000+100000 to 7f0000000000",
];

describe("a repaired negotiation", () => {
  const offer = (bench: Bench, value = OFFER) =>
    bench.word(bench.make.reply("GET_FEATURES", { kind: "u64", value }));
  const acknowledge = (bench: Bench, value: bigint) =>
    bench.word(bench.make.request("SET_FEATURES", { kind: "u64", value }));

  it("is left alone if nothing is to be repaired", () => {
    assert.equal(repairing(NO_REPAIRS), undefined);
  });

  it("lacks in the acknowledgement what is masked there, and offers it all the same", () => {
    const bench = new Bench({ maskAcknowledged: maskOf(F.ACCESS_PLATFORM) });
    assert.equal(offer(bench), OFFER);
    assert.equal(acknowledge(bench, OFFER), OFFER & ~maskOf(F.ACCESS_PLATFORM));
    assert.match(
      bench.remarks[0],
      /^repair: SET_FEATURES goes on as 0x140000000 \[PROTOCOL_FEATURES VERSION_1\]$/,
    );
  });

  it("lacks in the offer what is masked there", () => {
    const bench = new Bench({ maskOffered: maskOf(F.ACCESS_PLATFORM) });
    assert.equal(offer(bench), OFFER & ~maskOf(F.ACCESS_PLATFORM));
  });

  it("offers what the back-end does not have, and tells it nothing of it", () => {
    const bench = new Bench({ addOffered: maskOf(F.ACCESS_PLATFORM) });
    const less = OFFER & ~maskOf(F.ACCESS_PLATFORM);
    assert.equal(offer(bench, less), OFFER);
    assert.equal(acknowledge(bench, OFFER), less);
    const knows = new Bench({ addOffered: maskOf(F.ACCESS_PLATFORM) });
    assert.equal(offer(knows), OFFER);
    assert.equal(acknowledge(knows, OFFER), OFFER);
  });

  it("acknowledges what the front-end forgot", () => {
    const bench = new Bench({ addAcknowledged: maskOf(F.PROTOCOL_FEATURES) });
    offer(bench);
    assert.equal(acknowledge(bench, maskOf(F.VERSION_1)), maskOf(F.VERSION_1, F.PROTOCOL_FEATURES));
  });

  it("lacks protocol features on both ways", () => {
    const bench = new Bench({ maskProtocol: maskOf(PROTOCOL_F.XEN_MMAP) });
    const value = maskOf(PROTOCOL_F.MQ, PROTOCOL_F.XEN_MMAP);
    assert.equal(
      bench.word(bench.make.reply("GET_PROTOCOL_FEATURES", { kind: "u64", value })),
      maskOf(PROTOCOL_F.MQ),
    );
    assert.equal(
      bench.word(bench.make.request("SET_PROTOCOL_FEATURES", { kind: "u64", value })),
      maskOf(PROTOCOL_F.MQ),
    );
  });
});

describe("a served IOTLB", () => {
  it("maps each region at both of its addresses before the rings start, and keeps the answers to itself", () => {
    const bench = new Bench({ serveIotlb: true }).start();
    assert.deepEqual(bench.injected, TWICE);
    assert.equal(bench.kind(bench.make.ack("IOTLB_MSG")), "drop");
    assert.equal(bench.kind(bench.make.ack("IOTLB_MSG")), "drop");
    assert.equal(bench.kind(bench.make.ack("IOTLB_MSG")), "pass");
  });

  it("answers a MISS with the region that it is in, and one that is in none with a failure", () => {
    const bench = new Bench({ serveIotlb: true }).start();
    bench.injected.splice(0);
    assert.equal(bench.miss(USER + 0x5000n), "drop");
    assert.deepEqual(bench.injected.splice(0), [...TWICE, "to-backend BACKEND_IOTLB_MSG reply 0"]);
    assert.equal(bench.miss(0xdead_0000n), "drop");
    assert.deepEqual(bench.injected, ["to-backend BACKEND_IOTLB_MSG reply 1"]);
  });

  it("maps anew for rings that start again after SET_FEATURES, and nothing while they run", () => {
    const bench = new Bench({ serveIotlb: true }).start();
    bench.injected.splice(0);
    const again = (value: bigint) => bench.kind(bench.make.request("SET_FEATURES", { kind: "u64", value }));
    bench.kind(bench.make.request("SET_VRING_ENABLE", { kind: "vringState", index: 0, num: 1 }));
    again(OFFER | maskOf(F.LOG_ALL));
    bench.kind(bench.make.request("SET_VRING_ENABLE", { kind: "vringState", index: 0, num: 0 }));
    assert.deepEqual(bench.injected, []);
    again(OFFER);
    bench.kind(bench.make.request("SET_VRING_ENABLE", { kind: "vringState", index: 0, num: 1 }));
    assert.deepEqual(bench.injected, TWICE);
  });

  it("takes back what goes away", () => {
    const bench = new Bench({ serveIotlb: true }).start();
    bench.injected.splice(0);
    assert.equal(
      bench.kind(bench.make.request("REM_MEM_REG", { kind: "memRegion", region: REGION })),
      "pass",
    );
    assert.deepEqual(
      bench.injected,
      TWICE.map((text) => text.replace("UPDATE", "INVALIDATE")),
    );
  });

  it("leaves a front-end alone that does without bit 33, maps by itself, or is behind a vIOMMU", () => {
    const masked = new Bench({ serveIotlb: true, maskAcknowledged: maskOf(F.ACCESS_PLATFORM) });
    masked.make.request("GET_FEATURES");
    masked.kind(masked.make.request("SET_FEATURES", { kind: "u64", value: OFFER }));
    assert.equal(masked.miss(0x1000n), "pass");
    const translating = new Bench({ serveIotlb: true }).start(0xffff_f000n);
    assert.deepEqual(translating.injected, []);
    assert.equal(translating.miss(0xffff_f000n), "pass");
    assert.match(translating.remarks[0], /not served: a ring is at an I\/O virtual address/);
    const own = new Bench({ serveIotlb: true });
    const update = {
      kind: "iotlb",
      type: IOTLB_TYPE.UPDATE,
      iova: 0n,
      size: 0x1000n,
      userAddress: USER,
      perm: 3,
    } as const;
    assert.equal(own.kind(own.make.request("IOTLB_MSG", update)), "pass");
    own.start();
    assert.deepEqual(own.injected, []);
  });
});
