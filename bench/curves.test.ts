import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { CURVE_NAMES, CURVES, type CurvePoint, pointsOf, pointsToText } from "./curves-points.js";
import { runCurves } from "./curves-run.js";

describe("the points of a curve", () => {
  const measured = new Map([
    [1, [100, 110, 90]],
    [10, [80, 90, 60]],
  ]);

  it("are medians, and the median of the rounds' ratios to the first point", () => {
    assert.deepEqual(pointsOf("connections-active", measured), [
      { curve: "connections-active", x: 1, unit: "MiB/s", value: 100, relative: 1, spread: 0.2 },
      { curve: "connections-active", x: 10, unit: "MiB/s", value: 80, relative: 0.8, spread: 0.38 },
    ]);
  });

  it("are one line of JSON each, and a line of text", () => {
    const points = pointsOf("vms-memory", measured);
    assert.deepEqual(Object.keys(JSON.parse(JSON.stringify(points[0]))), [
      "curve",
      "x",
      "unit",
      "value",
      "relative",
      "spread",
    ]);
    const lines = pointsToText(points).split("\n");
    assert.equal(lines.length, 2);
    assert.match(lines[1], /^vms-memory +10 +80 MiB +0.8 +±38%$/);
  });

  it("lie at what grows, from the smallest on", () => {
    for (const name of CURVE_NAMES) {
      const xs: readonly number[] = CURVES[name].xs;
      assert.ok(xs.length >= 4);
      assert.deepEqual(
        [...xs].sort((a, b) => a - b),
        xs,
      );
    }
  });
});

/** With real processes, as short as it gets: that each kind of point comes about, and nothing about time. */
describe("a run of the curves", () => {
  const tiny = { rounds: 1, durationMs: 20 };

  async function run(names: Parameters<typeof runCurves>[0], mostX: number): Promise<CurvePoint[]> {
    const points = await runCurves(names, { ...tiny, mostX });
    for (const { curve, x, value } of points) assert.ok(value > 0, `${curve} at ${x}: ${value}`);
    return points;
  }

  function lines(points: readonly CurvePoint[]): string[] {
    return points.map(({ curve, x }) => `${curve} ${x}`);
  }

  it("goes over connections, active and idle ones", async () => {
    const points = await run(["connections-idle"], 10);
    assert.deepEqual(
      lines(points),
      ["active", "active-cpu", "idle", "idle-cpu"].flatMap((what) => [
        `connections-${what} 1`,
        `connections-${what} 10`,
      ]),
    );
  });

  it("goes over the VMs of a daemon, with their memory and threads", async () => {
    const points = await run(["vms-active"], 4);
    assert.deepEqual(
      lines(points),
      ["active", "active-cpu", "idle", "idle-cpu", "memory", "threads"].flatMap((what) => [
        `vms-${what} 1`,
        `vms-${what} 4`,
      ]),
    );
    const threads = points.filter(({ curve }) => curve === "vms-threads").map(({ value }) => value);
    assert.equal(threads[1] - threads[0], 3);
  });

  it("goes over regions of memory and sizes of rings, in both directions", async () => {
    const found = [...lines(await run(["ring-to-guest"], 128)), ...lines(await run(["regions-to-host"], 4))];
    const both = (name: string, xs: readonly number[]): string[] =>
      ["to-guest", "to-guest-cpu", "to-host", "to-host-cpu"].flatMap((way) =>
        xs.map((x) => `${name}-${way} ${x}`),
      );
    assert.deepEqual(found, [...both("ring", [128]), ...both("regions", [1, 4])]);
  });
});
