/**
 * The process that `allocation.test.ts` starts, with a young generation so large that nothing is collected meanwhile: moves
 * packets through a device of its own and writes down, one JSON object a line, how much JavaScript memory that took.
 * Arguments: `translated` puts a vIOMMU in front of the device, `packed` makes its rings packed ones, with `inflight`
 * the front-end keeps inflight memory; with `leak` it allocates one small object a chain, which the check has to notice.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { getHeapStatistics } from "node:v8";
import type { DeviceQueue } from "../src/virtqueue/device-queue.js";
import { PackedDeviceQueue } from "../src/virtqueue/packed-device-queue.js";
import { SplitDeviceQueue } from "../src/virtqueue/split-device-queue.js";
import { AllocationRig, RECEIVED_BYTES, SENT_BYTES } from "./allocation-rig.js";
import { median } from "./statistics.js";

const PACKETS = 100_000;
/** Of each kind of work, in turn: functions are compiled for what they have seen. */
const WARM_UP_PACKETS = 40_000;
const WARM_UP_ROUNDS = 3;
/**
 * The counters of credit begin as small integers, and functions that use them are compiled anew when a connection passes
 * 2 GiB for the first time. That happens once, and is over before anything is measured.
 */
const SMALL_INTEGERS = 2 ** 31;
/**
 * How often it is looked: what is allocated for each packet is there at each look. Their median leaves out what happens
 * once, such as a function that is compiled late because the machine is busy.
 */
const LOOKS = 25;
/** On a busy machine a warm-up may not be enough; then what was measured was one more. */
const MOST_ATTEMPTS = 4;
const ENOUGH_BYTES_PER_PACKET = 1;

export interface AllocationResult {
  readonly direction: "toHost" | "toGuest";
  /** How many packets each wake-up of the device has to move. */
  readonly atATime: number;
  readonly packets: number;
  /** Of the look in the middle. */
  readonly bytesPerPacket: number;
  /** How often there was less than before: something was collected. */
  readonly collections: number;
  /** IOTLB entries that the device was given meanwhile. */
  readonly updates: number;
}

const KINDS = (["toHost", "toGuest"] as const).flatMap((direction) =>
  [1, 32].map((atATime) => ({ direction, atATime })),
);

function measure(rig: AllocationRig, { direction, atATime }: (typeof KINDS)[number]): AllocationResult {
  const updatesBefore = rig.updates;
  const looks: number[] = [];
  let collections = 0;
  let before = getHeapStatistics().used_heap_size;
  for (let look = 0; look < LOOKS; look++) {
    rig[direction](PACKETS / LOOKS, atATime);
    const after = getHeapStatistics().used_heap_size;
    if (after < before) collections++;
    else looks.push(after - before);
    before = after;
  }
  return {
    direction,
    atATime,
    packets: PACKETS,
    bytesPerPacket: median(looks) / (PACKETS / LOOKS),
    collections,
    updates: rig.updates - updatesBefore,
  };
}

/** The first result in which nothing is allocated, or the last one. */
function settled(rig: AllocationRig, kind: (typeof KINDS)[number]): AllocationResult {
  for (let attempt = 1; ; attempt++) {
    const result = measure(rig, kind);
    if (attempt === MOST_ATTEMPTS || result.bytesPerPacket < ENOUGH_BYTES_PER_PACKET) return result;
  }
}

function leakOneObjectAChain(): void {
  const kept: object[] = new Array(1024).fill({});
  let at = 0;
  for (const { prototype } of [SplitDeviceQueue, PackedDeviceQueue]) {
    const { push } = prototype;
    prototype.push = function (this: DeviceQueue, head, writtenBytes) {
      at = (at + 1) & 1023;
      kept[at] = { head };
      push.call(this as never, head, writtenBytes);
    };
  }
}

const folder = mkdtempSync(join(tmpdir(), "b33-alloc-"));
try {
  const isLeaking = process.argv.includes("leak");
  if (isLeaking) leakOneObjectAChain();
  const rig = new AllocationRig(join(folder, "uds"), {
    translated: process.argv.includes("translated"),
    packed: process.argv.includes("packed"),
    inflight: process.argv.includes("inflight"),
  });
  if (!isLeaking) {
    rig.toHost(Math.ceil(SMALL_INTEGERS / SENT_BYTES), 32);
    rig.toGuest(Math.ceil(SMALL_INTEGERS / RECEIVED_BYTES), 32);
  }
  for (let round = 0; round < WARM_UP_ROUNDS; round++) {
    for (const { direction, atATime } of KINDS) rig[direction](WARM_UP_PACKETS, atATime);
    rig.passTime();
  }
  for (const kind of KINDS) console.log(JSON.stringify(isLeaking ? measure(rig, kind) : settled(rig, kind)));
  rig.close();
} finally {
  rmSync(folder, { recursive: true, force: true });
}
