import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { encodeFrame } from "../vhost/wire/index.js";
import { VIOMMU_SESSION } from "../vhost/wire/qemu-session.fixture.js";
import { FrameMaker, MS, START_NS } from "./frames.fixture.js";
import { InspectedSession } from "./session.js";
import { summaryOf } from "./summary.js";

function session(): InspectedSession {
  return new InspectedSession({ session: 1, timeNs: START_NS, transport: "vhost-user" });
}

describe("an inspected session", () => {
  it("follows a recorded QEMU behind a virtio-iommu: features, memory, rings and mappings", () => {
    const inspected = session();
    const make = new FrameMaker();
    for (const message of VIOMMU_SESSION) inspected.frame(make.recorded(message));
    const { model } = inspected;
    assert.equal(model.offered, 0x103_7000_0003n);
    assert.equal(model.acknowledged, 0x103_7000_0002n);
    assert.equal(model.channel, "given");
    assert.equal(model.regions.length, 1);
    assert.equal(model.iotlb.updates, 4);
    assert.equal(model.iotlb.misses, 4);
    assert.equal(model.iotlb.answered, 2);
    assert.deepEqual([...model.rings.keys()], [0, 1]);
    assert.equal(model.runningSinceNs, undefined);
    assert.equal(model.rings.get(0)?.stoppedAt, 0);
    assert.equal(model.ringSpace, "iova");
  });

  it("gives each answer its request and the time it took", () => {
    const inspected = session();
    const make = new FrameMaker();
    inspected.frame(make.request("GET_FEATURES"));
    make.wait(4n * MS);
    const { answers } = inspected.frame(make.reply("GET_FEATURES", { kind: "u64", value: 0n }));
    assert.deepEqual(answers, { number: 1, afterNs: 5n * MS });
    assert.deepEqual(inspected.figures.waits, [
      { name: "GET_FEATURES", count: 1, totalNs: 5n * MS, slowestNs: 5n * MS },
    ]);
  });

  it("shows what it cannot decode by its number, and goes on", () => {
    const inspected = session();
    const make = new FrameMaker();
    const unknown = encodeFrame(77, 0, { kind: "opaque", bytes: new Uint8Array(3000) });
    assert.equal(
      inspected.frame(make.raw("main", "to-backend", unknown, 1)).line,
      "request 77 3012 bytes fds=1",
    );
    const odd = encodeFrame(8, 0, { kind: "opaque", bytes: new Uint8Array(5) });
    assert.match(
      inspected.frame(make.raw("main", "to-backend", odd)).line,
      /^SET_VRING_NUM 17 bytes \(.*5 bytes/,
    );
    assert.equal(inspected.frame(make.request("SET_OWNER")).line, "SET_OWNER");
  });

  it("writes each ring address with its space", () => {
    const inspected = session();
    const make = new FrameMaker();
    const region = { guestAddress: 0n, size: 0x10000n, userAddress: 0x7f0000000000n, mmapOffset: 0n };
    inspected.frame(make.request("SET_MEM_TABLE", { kind: "memTable", regions: [region] }, { fds: 1 }));
    const payload = {
      kind: "vringAddr",
      index: 1,
      flags: 0,
      desc: 0x7f0000001000n,
      avail: 0x2000n,
      used: 0xffff_0000n,
      log: 0n,
    } as const;
    const { line } = inspected.frame(make.request("SET_VRING_ADDR", payload));
    assert.equal(line, "SET_VRING_ADDR q1 desc=uva:0x7f0000001000 avail=gpa:0x2000 used=iova:0xffff0000");
  });

  it("survives whatever the two ends send, and keeps no more of it than it can", () => {
    const piece = fc.record({
      request: fc.integer({ min: 0, max: 50 }),
      flags: fc.integer({ min: 0, max: 0xf }),
      bytes: fc.uint8Array({ maxLength: 60 }),
      // Payloads that are of the right size more often than chance has them.
      length: fc.constantFrom(undefined, 0, 8, 20, 32, 40, 48),
      channel: fc.constantFrom("main" as const, "backend" as const),
      direction: fc.constantFrom("to-backend" as const, "to-frontend" as const),
      descriptors: fc.integer({ min: 0, max: 3 }),
    });
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 60 }), (pieces) => {
        const inspected = session();
        const make = new FrameMaker();
        for (const { request, flags, bytes, length, channel, direction, descriptors } of pieces) {
          const body = new Uint8Array(length ?? bytes.length);
          body.set(bytes.subarray(0, body.length));
          const frame = encodeFrame(request, flags, { kind: "opaque", bytes: body });
          const { line } = inspected.frame(make.raw(channel, direction, frame, descriptors));
          assert.ok(line.length > 0 && !line.includes("\n"));
        }
        inspected.finish({ timeNs: make.nowNs + 60_000n * MS, by: "front-end", reason: "it is over" });
        summaryOf(inspected);
      }),
      { numRuns: 300 },
    );
    const inspected = session();
    const make = new FrameMaker();
    for (let number = 1000; number < 3000; number++)
      inspected.frame(make.raw("main", "to-backend", encodeFrame(number, 0, { kind: "none" })));
    const unknown = inspected.findings.filter(({ lint }) => lint === "unknown-message");
    assert.equal(unknown.length, 65);
    assert.equal(unknown.at(-1)?.count, 1936);
  });
});
