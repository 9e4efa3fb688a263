/**
 * `node build/bench/curves.js`: what our device costs as work grows: connections, VMs, entries of the IOTLB, descriptors,
 * regions of memory. One JSON object a line for each point.
 */
import { parseArgs } from "node:util";
import { CURVE_NAMES, CURVES, type CurveName, pointsToText } from "./curves-points.js";
import { runCurves } from "./curves-run.js";

const USAGE = `node build/bench/curves.js [options]
  --only A,B        of the curves below, or the first part of a name (default all)
  --quick           3 rounds of 200 ms
  --rounds N        how often each point is measured (default 5)
  --ms N            how long each time (default 500)
  --most-x N        leaves out points above
  --node-option=X   for the device's process, such as --cpu-prof; may be repeated
  --json            JSON only

${CURVE_NAMES.map((name) => `  ${name.padEnd(20)} ${CURVES[name].title}; ${CURVES[name].of}: ${CURVES[name].xs.join(", ")}`).join("\n")}`;

const { values } = parseArgs({
  options: {
    only: { type: "string" },
    quick: { type: "boolean", default: false },
    rounds: { type: "string" },
    ms: { type: "string" },
    "most-x": { type: "string" },
    "node-option": { type: "string", multiple: true, default: [] },
    json: { type: "boolean", default: false },
    help: { type: "boolean", default: false },
  },
});

function chosen(only: string | undefined): CurveName[] {
  if (only === undefined) return CURVE_NAMES;
  return only.split(",").flatMap((part) => {
    const found = CURVE_NAMES.filter((name) => name === part || name.startsWith(`${part}-`));
    if (found.length === 0) throw new Error(`no such curve: ${part}; there are ${CURVE_NAMES.join(", ")}`);
    return found;
  });
}

async function main(): Promise<void> {
  if (values.help) {
    console.log(USAGE);
    return;
  }
  await runCurves(chosen(values.only), {
    rounds: Number(values.rounds ?? (values.quick ? 3 : 5)),
    durationMs: Number(values.ms ?? (values.quick ? 200 : 500)),
    mostX: Number(values["most-x"] ?? Number.POSITIVE_INFINITY),
    nodeOptions: values["node-option"],
    onPoints: (points) => {
      if (!values.json) console.error(pointsToText(points));
      for (const point of points) console.log(JSON.stringify(point));
    },
  });
}

await main();
