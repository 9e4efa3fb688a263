/**
 * `node build/bench/siblings.js`: how fast one guest sends to another of the same program, ours against vhost-device-vsock,
 * side by side: each round measures one after the other, in an order that alternates. Both guests are the measuring driver,
 * each in a process of its own; no byte of payload is written or looked at by them. One JSON line a row and setting on
 * standard output; what is going on goes to standard error.
 */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { peerProgram, whatPeerIsMissing } from "../test/peers/paths.js";
import { DeviceProcess } from "./device-process.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import type { SiblingRecord } from "./siblings-rows.js";
import { median, significant, spread } from "./statistics.js";

const MESSAGE_BYTES = 64 * 1024;
const QUEUE_SIZE = 256;
const PORT = 5000;
/** Of the first VM and the second (`device-process.ts`), which are siblings. */
const CIDS = [3, 4] as const;
/** The requirement: ours is at least so many times as fast. */
const BAR = 2;
const MIB = 1024 * 1024;
/** As the contest has them: each device as it comes, and both with the same buffer. */
const SETTINGS = { default: undefined, equal: MIB } as const;

type Side = "ours" | "peer";

/** Starts a device and two guests on it, and returns what the one gets from the other, in MiB a second. */
async function measure(side: Side, bufferBytes: number | undefined, durationMs: number): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "bit33-siblings-"));
  mkdirSync(join(folder, "d"));
  const options = { folder: join(folder, "d"), bufferBytes, vms: CIDS.length, siblings: true };
  const progressPath = join(folder, "progress");
  const progress = new Progress(progressPath);
  const device = await (side === "ours"
    ? DeviceProcess.ours(options)
    : DeviceProcess.peer(peerProgram, options));
  const [sender, receiver] = CIDS.map((cid) => Program.guest(`guest ${cid} of ${side}`, progressPath));
  try {
    const common = { do: "attach", queueSize: QUEUE_SIZE, lazyCredit: false } as const;
    await sender.ask({ ...common, socketPath: device.socketPaths[0], peerCid: CIDS[1] });
    await receiver.ask({ ...common, socketPath: device.socketPaths[1], peerCid: CIDS[0] });
    let mibPerSecond = 0;
    // The first is to warm up.
    for (const ms of [durationMs / 2, durationMs]) {
      progress.reset();
      const [sent, received] = await Promise.all([
        sender.ask({
          do: "send",
          to: { port: PORT },
          connections: 1,
          messageBytes: MESSAGE_BYTES,
          durationMs: ms,
        }),
        receiver.ask({ do: "receive" }),
      ]);
      mibPerSecond = received.count / MIB / ((received.endedNs - sent.beganNs) / 1e9);
      await sender.ask({ do: "hang-up" });
    }
    return mibPerSecond;
  } finally {
    for (const program of [sender, receiver]) program.stop();
    await device.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "7" }, "duration-ms": { type: "string", default: "1500" } },
});
const [rounds, durationMs] = [Number(values.rounds), Number(values["duration-ms"])];
const missing = whatPeerIsMissing();
if (missing !== undefined)
  console.error(`${missing}: "npm run setup:peers" installs it; ours is measured alone.`);
const sides: Side[] = missing === undefined ? ["ours", "peer"] : ["ours"];
for (const [setting, bufferBytes] of Object.entries(SETTINGS)) {
  const found: Record<Side, number[]> = { ours: [], peer: [] };
  for (let round = 0; round < rounds; round++) {
    for (const side of round % 2 === 0 ? sides : [...sides].reverse())
      found[side].push(await measure(side, bufferBytes, durationMs));
    console.error(
      `${setting}, round ${round + 1}: ${sides.map((side) => `${side} ${found[side].at(-1)?.toFixed(0)}`).join(", ")} MiB/s`,
    );
  }
  // Of each round by itself: what disturbs the machine then disturbs both.
  const ratios = found.peer.map((peer, round) => found.ours[round] / peer);
  const ratio = ratios.length === 0 ? null : median(ratios);
  const line: SiblingRecord = {
    row: "guest-to-guest-64k",
    setting: setting as keyof typeof SETTINGS,
    unit: "MiB/s",
    ours: significant(median(found.ours)),
    peer: ratio === null ? null : significant(median(found.peer)),
    ratio: ratio === null ? null : significant(ratio),
    bar: BAR,
    met: ratio === null ? null : ratio >= BAR,
    spread: {
      ours: significant(spread(found.ours)),
      peer: ratio === null ? null : significant(spread(found.peer)),
    },
    rounds,
  };
  console.log(JSON.stringify(line));
}
