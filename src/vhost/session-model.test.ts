import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { signalEventfd } from "../linux/eventfd.js";
import { F, maskOf } from "../virtio/index.js";
import { FrontEndError } from "./front-end-error.js";
import {
  type Dma,
  IOVA_BASE,
  QUEUE_SIZE,
  type Rig,
  VERSION_1_AND_30,
  WITH_BIT_33,
  withRig,
} from "./session-rig.js";

/** One thing that a front-end or a driver may do; every one is legal by itself, their order is not. */
type Step =
  | { readonly do: "features"; readonly word: bigint }
  | {
      readonly do: "ring";
      readonly index: number;
      readonly what: "num" | "base" | "kick" | "nokick" | "call";
    }
  | { readonly do: "addresses"; readonly index: number; readonly dma: Dma }
  | { readonly do: "enable"; readonly index: number; readonly on: boolean }
  | { readonly do: "stop"; readonly index: number }
  | { readonly do: "map" | "unmap"; readonly page: number }
  | { readonly do: "kick"; readonly index: number }
  | {
      readonly do:
        | "add"
        | "remove"
        | "table"
        | "reset"
        | "owner"
        | "new owner"
        | "status"
        | "channel"
        | "hang-up"
        | "turn";
    };

const index = fc.nat(2);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant("features" as const),
    word: fc.constantFrom(
      VERSION_1_AND_30,
      WITH_BIT_33,
      maskOf(F.VERSION_1),
      maskOf(F.VERSION_1, F.ACCESS_PLATFORM),
    ),
  }),
  fc.record({
    do: fc.constant("ring" as const),
    index,
    what: fc.constantFrom("num", "base", "kick", "nokick", "call"),
  }),
  fc.record({
    do: fc.constant("addresses" as const),
    index,
    dma: fc.constantFrom<Dma>("user-rings", "iova", "guest-rings"),
  }),
  fc.record({ do: fc.constant("enable" as const), index, on: fc.boolean() }),
  fc.record({ do: fc.constant("stop" as const), index }),
  fc.record({ do: fc.constantFrom("map" as const, "unmap" as const), page: fc.nat(0x60) }),
  fc.record({ do: fc.constant("kick" as const), index }),
  fc.record({
    do: fc.constantFrom(
      "add" as const,
      "remove" as const,
      "table" as const,
      "reset" as const,
      "owner" as const,
      "new owner" as const,
      "status" as const,
      "channel" as const,
      "hang-up" as const,
      "turn" as const,
    ),
  }),
);

/** A session as QEMU sets it up, now and then, so that what follows finds something to disturb. */
const scenario = fc.record({
  iotlb: fc.constantFrom("auto" as const, "on" as const, "off" as const),
  begin: fc.constantFrom("nothing", "plain", "iova", "bit-33"),
  channel: fc.boolean(),
  steps: fc.array(step, { maxLength: 40 }),
});

/** Returns whatever the call returned; nobody looks at it. */
function perform(rig: Rig, todo: Step): unknown {
  const { fe, ram } = rig;
  switch (todo.do) {
    case "features":
      return fe.setFeatures(todo.word);
    case "ring":
      if (todo.what === "num") return fe.setVringNum(todo.index, QUEUE_SIZE);
      if (todo.what === "base") return fe.setVringBase(todo.index, 0);
      if (todo.what === "call") return fe.setVringCall(todo.index, rig.calls[todo.index]);
      return fe.setVringKick(todo.index, todo.what === "kick" ? rig.kicks[todo.index] : undefined);
    case "addresses":
      return fe.setVringAddr(todo.index, ram.addresses(todo.index, todo.dma));
    case "enable":
      return fe.setVringEnable(todo.index, todo.on);
    case "stop":
      return fe.getVringBase(todo.index);
    case "map":
      return rig.map(IOVA_BASE + BigInt(todo.page) * 4096n);
    case "unmap":
      return fe.iotlbInvalidate(IOVA_BASE + BigInt(todo.page) * 4096n, 0x3000n);
    case "kick":
      return signalEventfd(rig.kicks[todo.index]);
    case "add":
      return fe.addMemReg(ram.region);
    case "remove":
      return fe.remMemReg(ram.region);
    case "table":
      return fe.setMemTable([ram.region]);
    case "reset":
      return fe.resetDevice();
    case "owner":
      return fe.resetOwner();
    case "new owner":
      return fe.setOwner();
    case "status":
      return fe.setStatus(0);
    case "channel":
      return fe.openBackendChannel();
    case "hang-up":
      return fe.closeBackendChannel();
    case "turn":
      return undefined;
  }
}

test("whatever order messages come in: rings run only while the mode is decided, and questions come only while it is on", () => {
  fc.assert(
    fc.property(scenario, ({ iotlb, begin, channel, steps }) => {
      withRig({ iotlb, probationMs: 60_000 }, (rig) => {
        rig.connect({ channel });
        if (begin === "plain") rig.start(VERSION_1_AND_30, "user-rings");
        if (begin === "iova") rig.start(WITH_BIT_33, "iova");
        if (begin === "bit-33") rig.start(WITH_BIT_33, "user-rings");
        rig.mapsOnMiss = false;
        rig.fe.needReply = true;
        for (const todo of steps) {
          const asked = rig.misses.length;
          try {
            perform(rig, todo);
          } catch (error) {
            if (!(error instanceof FrontEndError)) throw error;
            if (error.code === "timeout") throw error;
          }
          rig.turn();
          const { state } = rig.session.translation;
          if (!rig.session.isOpen) {
            assert.equal(rig.device.running.size, 0);
            return;
          }
          rig.fe.serve();
          if (state !== "on") assert.equal(rig.misses.length, asked, `MISS while ${state}`);
          if (state === "undecided" || state === "refused") assert.equal(rig.device.running.size, 0);
          if (iotlb !== "auto") assert.equal(state, iotlb);
        }
      });
    }),
    { numRuns: 400 },
  );
});
