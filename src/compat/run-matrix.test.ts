/** The threads, with an engine of the test's own: order, progress, and each way in which a cell can be lost. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { DeviceProfile } from "../profiles/device-profile.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import type { VmmProfile } from "../profiles/vmm-profile.js";
import type { Matrix } from "./matrix.js";
import { cellName } from "./record.js";
import { CellFailure, defaultThreads, runMatrix } from "./run-matrix.js";

const entry = new URL("./cell-worker.fixture.js", import.meta.url);

/** Only names: the threads hand profiles on, and never look into them. The bigint has to survive the way. */
function matrix(guests: string[], vmms = ["vmm-0", "vmm-1"], devices = ["device-0", "device-1", "device-2"]) {
  const profiles = (names: string[]) => names.map((name) => ({ name, knows: 1n << 33n }));
  return {
    guests: profiles(guests) as unknown as GuestProfile[],
    vmms: profiles(vmms) as unknown as VmmProfile[],
    devices: profiles(devices) as unknown as DeviceProfile[],
  } satisfies Matrix;
}

async function fails(guest: string, problem: RegExp, options = {}) {
  await assert.rejects(
    runMatrix(matrix(["fine", guest], ["v"], ["d"]), { entry, threads: 1, ...options }),
    (error) => {
      assert.ok(error instanceof CellFailure);
      assert.equal(error.cell, `${guest}/v/d`);
      assert.match(error.message, problem);
      return true;
    },
  );
}

describe("a matrix", () => {
  it("comes back in the order guests, VMMs, devices, whichever thread was faster", async () => {
    for (const threads of [1, 3, 50]) {
      const cells = await runMatrix(matrix(["slow-first", "b"]), { entry, threads });
      const expected = ["slow-first", "b"].flatMap((guest) =>
        [0, 1].flatMap((vmm) => [0, 1, 2].map((device) => `${guest}/vmm-${vmm}/device-${device}`)),
      );
      assert.deepEqual(cells.map(cellName), expected);
    }
  });

  it("tells of each cell that is done", async () => {
    const seen: string[] = [];
    await runMatrix(matrix(["a"]), {
      entry,
      threads: 2,
      progress: (done, total) => seen.push(`${done}/${total}`),
    });
    assert.deepEqual(seen, ["1/6", "2/6", "3/6", "4/6", "5/6", "6/6"]);
  });

  it("may be empty", async () => {
    assert.deepEqual(await runMatrix(matrix([]), { entry }), []);
  });

  it("takes four threads at most, unless it is told otherwise", () => {
    assert.ok(defaultThreads() >= 1 && defaultThreads() <= 4);
  });
});

describe("a cell that is lost", () => {
  it("because the engine throws is an error with its name and the engine's stack", async () => {
    await fails("throws", /the engine is wrong\n\s+at .*cell-worker\.fixture/);
  });

  it("because the thread dies of an exception outside is an error with its name", async () => {
    await fails("dies", /its thread died: .*outside of any promise/);
  });

  it("because the thread exits is an error with its name", async () => {
    await fails("exits", /its thread ended with status 7/);
  });

  it("because it never ends is an error with its name", async () => {
    await fails("hangs", /it did not end within 0.5 s/, { cellLimitMs: 500 });
  });

  it("because its result cannot be handed over is an error with its name", async () => {
    await fails("strange", /could not be cloned/);
  });
});
