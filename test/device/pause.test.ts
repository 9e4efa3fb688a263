/**
 * VMs that are paused and go on, at any moment, with EVENT_IDX: the device hears of everything that was made available
 * before and after, and comes to rest when there is nothing left to do.
 */

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { F, has } from "../../src/virtio/index.js";
import { type Bench, MODES, withBench } from "./turn-bench.js";

/** QEMU's `stop` and `cont`: the rings are disabled, asked for their positions and set up there again. */
function pauseAndResume({ frontEnd }: Bench): void {
  frontEnd.resume(frontEnd.stop());
}

const pause = fc.record({
  afterGuestTurns: fc.nat(2),
  afterDeviceTurns: fc.nat(2),
  times: fc.integer({ min: 1, max: 3 }),
});

describe("a VM that is paused under load", { timeout: 300_000 }, () => {
  for (const [name, mode] of Object.entries(MODES)) {
    it(`loses no byte and no kick, under ${name}`, () =>
      fc.assert(
        fc.asyncProperty(
          fc.array(pause, { minLength: 1, maxLength: 12 }),
          fc.integer({ min: 1, max: 300_000 }),
          (pauses, bytes) =>
            withBench(mode, async (bench) => {
              assert.ok(has(bench.frontEnd.negotiation.sentToBackend, F.EVENT_IDX));
              bench.connect();
              await bench.settle();
              const [guest] = bench.connections;
              const [host] = bench.endpoints.accepted;
              const toHost = Buffer.alloc(bytes, "to the host, ");
              const toGuest = Buffer.alloc(bytes, "to the guest, ");
              const atHost: Buffer[] = [];
              const atGuest: Buffer[] = [];
              const receiving = (async () => {
                for (let piece = await guest.read(); piece !== undefined; piece = await guest.read())
                  atGuest.push(Buffer.from(piece));
              })();
              const sending = guest.write(toHost);
              let sent = 0;
              const hostTurn = (): void => {
                atHost.push(host.readAll());
                const written = host.write(toGuest.subarray(sent, sent + 65_536));
                if (sent < bytes && written > 0) sent += written;
              };
              const step = async (): Promise<void> => {
                hostTurn();
                await bench.guestTurn();
                bench.deviceLoop.turn(0);
                bench.frontEnd.serve();
              };
              for (const { afterGuestTurns, afterDeviceTurns, times } of pauses) {
                for (let turn = 0; turn < afterDeviceTurns; turn++) await step();
                for (let turn = 0; turn < afterGuestTurns; turn++) bench.guestLoop.turn(0);
                for (let time = 0; time < times; time++) pauseAndResume(bench);
              }
              const length = (pieces: Buffer[]): number =>
                pieces.reduce((sum, piece) => sum + piece.length, 0);
              for (
                let turns = 0;
                turns < 3000 && (length(atHost) < bytes || length(atGuest) < bytes);
                turns++
              )
                await step();
              assert.ok(Buffer.concat(atHost).equals(toHost), "what arrived at the host");
              assert.ok(Buffer.concat(atGuest).equals(toGuest), "what arrived at the guest");
              await bench.settle();
              assert.equal(bench.isAtRest(), true, "the device has come to rest");
              assert.equal(bench.driver.connectionCount, 1);
              const closing = guest.close();
              await bench.settle();
              await Promise.all([sending, receiving, closing]);
            }),
        ),
        { numRuns: 10 },
      ));
  }

  it("hears of a kick that came while it was paused, and one that came before and was not heard", () =>
    withBench(MODES["user addresses"], async (bench) => {
      const positions = bench.frontEnd.stop();
      bench.connect();
      await bench.guestTurn();
      bench.frontEnd.resume(positions);
      await bench.settle();
      assert.equal(bench.connections.length, 1);
      bench.connect();
      await bench.guestTurn();
      pauseAndResume(bench);
      await bench.settle();
      assert.equal(bench.connections.length, 2);
      assert.equal(bench.isAtRest(), true);
    }));

  it("rests while it is paused, whatever the host programs do", () =>
    withBench(MODES["user addresses"], async (bench) => {
      bench.connect();
      await bench.settle();
      const positions = bench.frontEnd.stop();
      const [host] = bench.endpoints.accepted;
      host.write(Buffer.alloc(1000));
      for (let turn = 0; turn < 4; turn++) bench.deviceLoop.turn(0);
      assert.equal(bench.isAtRest(), true);
      bench.frontEnd.resume(positions);
      await bench.settle();
      assert.equal((await bench.connections[0].read())?.length, 1000);
    }));
});
