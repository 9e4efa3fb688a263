/**
 * Recorded sessions of real QEMUs, inspected: what `bit33 inspect` says of each. QEMU is no reference, but a lint that
 * fires where QEMU is right is wrong. What QEMU does wrong is listed, by session.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { FrameMaker, START_NS } from "../../src/inspect/frames.fixture.js";
import { isAtLeast } from "../../src/inspect/lints/lint.js";
import { InspectedSession } from "../../src/inspect/session.js";
import {
  type FrontendMessageName,
  IOTLB_TYPE,
  messageByName,
  type Payload,
} from "../../src/vhost/wire/index.js";
import { RECORDED_LINES } from "./recordings.fixture.js";

/** Warnings and errors that are QEMU's own; none for sessions that are not named. */
const QEMU_DOES: Readonly<Record<string, readonly string[]>> = {
  // "iommu_platform=true" is handed on behind a vIOMMU whatever the back-end offers.
  "QEMU 7.2, virtio-iommu, a back-end without bit 33": ["access-platform-not-offered"],
  // The same, and it goes on although MISSes have no way to travel.
  "QEMU 7.2, virtio-iommu, a back-end with CONFIG alone": [
    "access-platform-not-offered",
    "translated-without-channel",
    "translated-without-channel",
  ],
};

/** The numbers of a recorded line by their names: `num=128`, `desc=0x…`. */
function numbersIn(line: string): (name: string) => bigint {
  const found = new Map(
    [...line.matchAll(/(\w+)=(0x[0-9a-f]+|\d+)/g)].map(([, name, value]) => [name, BigInt(value)]),
  );
  return (name) => found.get(name) ?? 0n;
}

const ringIn = (line: string): number => Number(/ q(\d+)/.exec(line)?.[1] ?? 0);

function regionFrom(line: string) {
  const number = numbersIn(line);
  return {
    guestAddress: number("gpa"),
    size: number("size"),
    userAddress: number("uaddr"),
    mmapOffset: number("off"),
  };
}

function iotlbFrom(line: string, type: number): Payload {
  const number = numbersIn(line);
  const [iova, size, userAddress] = [number("iova"), number("size"), number("uaddr")];
  return { kind: "iotlb", type, iova, size, userAddress, perm: Number(number("perm")) };
}

/** What a line's message carries; `next` is the line that belongs to it, if one does. */
function payloadFrom(
  name: FrontendMessageName,
  line: string,
  next: string,
): { payload: Payload; fds: number } {
  const index = ringIn(line);
  const number = numbersIn(line);
  const state = (num: bigint) => ({
    payload: { kind: "vringState", index, num: Number(num) } as const,
    fds: 0,
  });
  switch (messageByName("frontend", name).request) {
    case "u64":
      return { payload: { kind: "u64", value: BigInt(line.split(" ")[1]) }, fds: 0 };
    case "vringState":
      return state(number("num") + number("enable") + number("base"));
    case "vringFd":
      return { payload: { kind: "vringFd", index, noFd: false }, fds: 1 };
    case "vringAddr": {
      const [desc, used, avail] = [number("desc"), number("used"), number("avail")];
      return { payload: { kind: "vringAddr", index, flags: 0, desc, used, avail, log: 0n }, fds: 0 };
    }
    case "memTable":
      return { payload: { kind: "memTable", regions: [regionFrom(next)] }, fds: 1 };
    case "memRegion":
      return { payload: { kind: "memRegion", region: regionFrom(next) }, fds: 1 };
    case "iotlb":
      return { payload: iotlbFrom(line, IOTLB_TYPE.UPDATE), fds: 0 };
    case "config":
      return { payload: { kind: "config", offset: 0, flags: 0, data: new Uint8Array(8) }, fds: 0 };
    default:
      return { payload: { kind: "none" }, fds: name === "SET_BACKEND_REQ_FD" ? 1 : 0 };
  }
}

function answerFrom(name: FrontendMessageName, line: string, request: Payload): Payload {
  const said = line.split(" => ")[1];
  switch (messageByName("frontend", name).reply) {
    case "vringState":
      return { kind: "vringState", index: ringIn(line), num: Number(said.replace("base ", "")) };
    case "config":
      return request;
    default:
      return { kind: "u64", value: BigInt(said ?? 0) };
  }
}

function inspected(text: string): InspectedSession {
  const session = new InspectedSession({ session: 1, timeNs: START_NS, transport: "vhost-user" });
  const make = new FrameMaker();
  let hasReplyAck = false;
  const lines = text.trim().split("\n");
  lines.forEach((line, at) => {
    if (line.startsWith("  -> BACKEND IOTLB_MSG MISS"))
      session.frame(make.ask("IOTLB_MSG", iotlbFrom(line, IOTLB_TYPE.MISS)));
    if (line.startsWith(" ")) return;
    const name = line.split(" ")[0] as FrontendMessageName;
    const needReply = line.includes(" NEED_REPLY");
    const { payload, fds } = payloadFrom(name, line.replace(" NEED_REPLY", ""), lines[at + 1] ?? "");
    session.frame(make.request(name, payload, { needReply, fds }));
    if (name === "SET_PROTOCOL_FEATURES" && payload.kind === "u64") hasReplyAck = (payload.value & 8n) !== 0n;
    if (messageByName("frontend", name).replies === "always")
      session.frame(make.reply(name, answerFrom(name, line, payload)));
    else if (needReply && hasReplyAck) session.frame(make.ack(name));
  });
  session.finish({ timeNs: make.nowNs, by: "front-end", reason: "the recording ends" });
  return session;
}

describe("a recorded session, inspected", () => {
  for (const { name, text, viommu } of RECORDED_LINES) {
    it(`${name}: nothing is found but what QEMU does`, () => {
      const { findings, model, figures } = inspected(text);
      const wrong = findings.filter(({ severity }) => isAtLeast(severity, "warning"));
      assert.deepEqual(
        wrong.map(({ lint }) => lint),
        QEMU_DOES[name] ?? [],
      );
      assert.ok(figures.toBackend > 30);
      assert.equal(model.rings.get(1)?.starts, 1);
      assert.equal(model.iotlb.updates > 0, viommu);
    });
  }
});
