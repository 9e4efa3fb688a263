/**
 * The dirty log against the truth: the guest's memory before and after a turn of the device, page by page. Whatever
 * changes in the device's turn is the device's doing.
 */

import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { createEventfd, drainEventfd } from "../../src/linux/eventfd.js";
import { F, mask } from "../../src/virtio/index.js";
import { type Bench, LOG_BYTES, MODES, SLOTS, withBench } from "./turn-bench.js";

const PAGE = 4096;

type Action =
  | { readonly does: "connect" }
  | { readonly does: "guest-sends" | "host-sends"; readonly which: number; readonly bytes: number }
  | { readonly does: "guest-closes" | "host-closes"; readonly which: number }
  | { readonly does: "toggle" };

const which = fc.nat(3);
const bytes = fc.oneof(fc.integer({ min: 1, max: 100 }), fc.integer({ min: 3000, max: 20_000 }));
const action: fc.Arbitrary<Action> = fc.oneof(
  { weight: 2, arbitrary: fc.constant({ does: "connect" } as const) },
  { weight: 3, arbitrary: fc.record({ does: fc.constant("guest-sends" as const), which, bytes }) },
  { weight: 5, arbitrary: fc.record({ does: fc.constant("host-sends" as const), which, bytes }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("guest-closes" as const), which }) },
  { weight: 1, arbitrary: fc.record({ does: fc.constant("host-closes" as const), which }) },
  { weight: 1, arbitrary: fc.constant({ does: "toggle" } as const) },
);

let filler = 1;

function act(bench: Bench, todo: Action): void {
  if (todo.does === "connect") bench.connect();
  if (!("which" in todo)) return;
  const guest = bench.connections[todo.which];
  const host = bench.endpoints.accepted[todo.which];
  // A byte that was not there before, so that every page that is written changes.
  if (todo.does === "guest-sends") guest?.write(Buffer.alloc(todo.bytes, filler++)).catch(() => {});
  if (todo.does === "host-sends" && bench.isOpen(host)) host.write(Buffer.alloc(todo.bytes, filler++));
  if (todo.does === "guest-closes") guest?.close().catch(() => {});
  if (todo.does === "host-closes" && bench.isOpen(host)) bench.closeHost(host);
}

describe("the dirty log", { timeout: 300_000 }, () => {
  for (const [name, mode] of Object.entries(MODES)) {
    it(`has the pages that the device wrote, and no other, under ${name}`, () =>
      fc.assert(
        fc.asyncProperty(fc.array(action, { minLength: 1, maxLength: 25 }), (actions) =>
          withBench(mode, async (bench) => {
            bench.connect();
            await bench.settle();
            let isOn = true;
            bench.setLog(isOn);
            bench.takeLog();
            for (const todo of actions) {
              if (todo.does === "toggle") {
                isOn = !isOn;
                bench.setLog(isOn);
                bench.takeLog();
              }
              act(bench, todo);
              await bench.guestTurn();
              const before = bench.snapshot();
              bench.takeLog();
              bench.deviceTurn();
              const logged = bench.takeLog();
              assert.deepEqual(logged, isOn ? withRewritten(bench, bench.changed(before), logged) : []);
              await bench.guestTurn();
            }
          }),
        ),
        { numRuns: 8 },
      ));
  }

  /** Used rings may be written with what was there before: the flags, and where kicks are wanted. */
  function withRewritten(bench: Bench, changed: readonly number[], logged: readonly number[]): number[] {
    const used = usedPages(bench);
    const pages = new Set([...changed, ...logged.filter((page) => used.has(page))]);
    return [...pages].sort((a, b) => a - b);
  }

  function usedPages({ driver, platform }: Bench): Set<number> {
    const pages = new Set<number>();
    for (const { memory } of driver.queues) {
      for (const { gpa, bytes } of SLOTS) {
        const start = platform.ram.hostOf(gpa);
        const at = memory.host - start;
        if (at < 0 || at >= bytes) continue;
        for (let page = Math.floor((gpa + at) / PAGE); page <= (gpa + at + 4096) / PAGE; page++)
          pages.add(page);
      }
    }
    return pages;
  }

  it("rings the bell that came with SET_LOG_FD, and not without a reason", () =>
    withBench(MODES["user addresses"], async (bench) => {
      const bell = createEventfd();
      bench.frontEnd.session.setLogFd(bell);
      bench.connect();
      await bench.settle();
      assert.ok(drainEventfd(bell) < 0);
      bench.setLog(true);
      bench.endpoints.accepted[0].write(Buffer.from("hello"));
      await bench.settle();
      assert.equal(drainEventfd(bell), 8);
      bench.setLog(false);
      await bench.settle();
      drainEventfd(bell);
      bench.endpoints.accepted[0].write(Buffer.from("hello"));
      await bench.settle();
      assert.ok(drainEventfd(bell) < 0);
      closeSync(bell);
    }));

  it("that is too short loses pages, and nothing beyond its end is written", () =>
    withBench(MODES["user addresses"], async (bench) => {
      bench.frontEnd.setDirtyLog({ fd: bench.logFd, size: 8n });
      bench.connect();
      await bench.settle();
      assert.deepEqual(bench.takeLog(), []);
      assert.equal(bench.connections.length, 1);
    }));

  it("is refused where it cannot be one, and the session goes on", () =>
    withBench(MODES["user addresses"], async (bench) => {
      const { session } = bench.frontEnd;
      assert.equal(session.setLogBase(bench.logFd, 0n), false);
      assert.equal(session.setLogBase(bench.logFd, BigInt(LOG_BYTES) + 4096n), false);
      assert.equal(session.setLogBase(bench.logFd, 4096n, 2n ** 63n), false);
      bench.connect();
      await bench.settle();
      assert.equal(bench.connections.length, 1);
    }));

  it("can be replaced by a larger one while rings run", () =>
    withBench(MODES["user addresses"], async (bench) => {
      bench.frontEnd.setDirtyLog({ fd: bench.logFd, size: 4096n });
      bench.setLog(true);
      bench.takeLog();
      bench.connect();
      await bench.settle();
      assert.notDeepEqual(bench.takeLog(), []);
    }));

  it("needs LOG_ALL: a log alone has nothing written to it", () =>
    withBench(MODES["user addresses"], async (bench) => {
      assert.equal(bench.frontEnd.negotiation.offeredByBackend & mask(F.LOG_ALL), mask(F.LOG_ALL));
      bench.frontEnd.session.setLogBase(bench.logFd, BigInt(LOG_BYTES));
      bench.connect();
      await bench.settle();
      assert.deepEqual(bench.takeLog(), []);
    }));
});
