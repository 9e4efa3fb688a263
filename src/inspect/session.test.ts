import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { encodeFrame } from "../vhost/wire/index.js";
import { VIOMMU_SESSION } from "../vhost/wire/qemu-session.fixture.js";
import { FrameMaker, MS, START_NS } from "./frames.fixture.js";
import { InspectedSession } from "./session.js";

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
});
