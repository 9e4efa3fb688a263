/**
 * Preloaded into the process of a soak's device (`node --import`): once a second each thread writes down what is on its
 * heap, and collects all rubbish when it is asked to. From outside of a thread its heap cannot be seen, and the device's
 * threads run an event loop of their own, so that nothing of Node's would wake them: hence the timer within that loop.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { getHeapStatistics } from "node:v8";
import { isMainThread, threadId } from "node:worker_threads";
import { EventLoop } from "../src/linux/event-loop.js";
import { COLLECT_FILE, type HeapSample, PROBE_FOLDER } from "./soak-sample.js";

const EVERY_MS = 1000;

const folder = process.env[PROBE_FOLDER] as string;
const path = join(folder, `heap-${threadId}`);
let collection = 0;
let liveBytes = 0;
let externalBytes = 0;

/** The number of the latest collection that was asked for. */
function wanted(): number {
  try {
    return Number(readFileSync(join(folder, COLLECT_FILE), "utf8"));
  } catch {
    return 0;
  }
}

function look(): void {
  const usedBytes = getHeapStatistics().used_heap_size;
  const latest = wanted();
  if (latest > collection) {
    collection = latest;
    gc?.();
    const after = getHeapStatistics();
    liveBytes = after.used_heap_size;
    externalBytes = after.external_memory;
  }
  // Whole or not at all, for whoever reads meanwhile.
  const sample: HeapSample = { usedBytes, liveBytes, externalBytes, collection };
  writeFileSync(`${path}.new`, JSON.stringify(sample));
  renameSync(`${path}.new`, path);
}

function repeat(loop: EventLoop): void {
  loop.setTimer(EVERY_MS, () => {
    look();
    repeat(loop);
  });
}

if (isMainThread) {
  setInterval(look, EVERY_MS).unref();
} else {
  const { run } = EventLoop.prototype;
  EventLoop.prototype.run = function (onWake) {
    repeat(this);
    run.call(this, onWake);
  };
}
