/**
 * The rows on memory: what a device holds with a VM attached, what a connection adds, and what a further VM in the same
 * daemon does. Every round is of fresh processes, so that nothing is there already because of what was before.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type DeviceOptions, DeviceProcess } from "./device-process.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import { type About, type BenchRecord, makeRecord } from "./record.js";
import { residentKib, settledKib } from "./resident.js";

const PROBE = fileURLToPath(new URL("./memory-probe.js", import.meta.url));
const CONNECTIONS = 1000;
const EXTRA_VMS = 8;
const MESSAGE_BYTES = 4096;
const QUEUE_SIZE = 256;

export interface MemoryOptions {
  readonly rounds: number;
  /** How long the connections are in use, for the row on memory after use. */
  readonly useMs: number;
  /** The peer's program; undefined: it is not measured. */
  readonly peerProgram: string | undefined;
  readonly onProgress?: (text: string) => void;
}

const MEMORY_ROWS = [
  "memory-device",
  "memory-device-rss",
  "memory-idle-1000",
  "memory-used-1000",
  "memory-extra-vm",
] as const;
type MemoryRow = (typeof MEMORY_ROWS)[number];
type Found = Record<MemoryRow, number>;

export async function measureMemory(options: MemoryOptions): Promise<BenchRecord[]> {
  const { rounds, peerProgram, onProgress } = options;
  const found: Record<"ours" | "peer", Found[]> = { ours: [], peer: [] };
  for (let round = 0; round < rounds; round++) {
    found.ours.push(await measureOne((parts) => DeviceProcess.ours(parts), options));
    if (peerProgram !== undefined)
      found.peer.push(await measureOne((parts) => DeviceProcess.peer(peerProgram, parts), options));
    onProgress?.(`memory: round ${round + 1} of ${rounds} is done`);
  }
  const node = await measureNode();
  const values = (side: "ours" | "peer", row: MemoryRow): number[] => found[side].map((each) => each[row]);
  return MEMORY_ROWS.map((row) => {
    const ours = values("ours", row);
    return makeRecord(row, { ours, peer: values("peer", row), floor: [] }, partsOf(row, ours, node));
  });
}

/** What of our memory is node's own, before anything is served. */
interface NodeCosts {
  /** A process with an empty script. */
  readonly process: number;
  /** A thread in it that does nothing, and the modules of a device in such a thread. */
  readonly thread: number;
  readonly modules: number;
}

function partsOf(row: MemoryRow, ours: readonly number[], node: NodeCosts): About {
  const less = (known: number): number[] => ours.map((value) => value - known);
  const { process: itself, thread, modules } = node;
  if (row === "memory-device")
    return {
      parts: { node: [itself], thread: [thread], modules: [modules], rest: less(itself + thread + modules) },
    };
  if (row === "memory-extra-vm")
    return { parts: { thread: [thread], modules: [modules], rest: less(thread + modules) } };
  return {};
}

async function measureNode(): Promise<NodeCosts> {
  const empty = await probe("empty");
  const loaded = await probe("modules");
  return { process: empty.before, thread: empty.each, modules: loaded.each - empty.each };
}

async function probe(kind: "empty" | "modules"): Promise<{ before: number; each: number }> {
  const child = fork(PROBE, [kind, String(EXTRA_VMS)]);
  const pid = child.pid as number;
  try {
    await once(child, "message");
    const before = await settledKib(pid);
    const ready = once(child, "message");
    child.send("begin");
    await ready;
    return { before, each: ((await settledKib(pid)) - before) / EXTRA_VMS };
  } finally {
    child.kill("SIGKILL");
  }
}

type Open = (options: DeviceOptions) => Promise<DeviceProcess>;

/** All rows, of one kind of device. */
async function measureOne(open: Open, { useMs }: MemoryOptions): Promise<Found> {
  const one = await withDevice(open, 1, async (attached) => {
    const { pid } = attached.device;
    const before = await settledKib(pid);
    const resident = residentKib(pid);
    const idle = await withConnections(attached, 0);
    const used = await withConnections(attached, useMs);
    return { before, resident, idle, used };
  });
  const many = await withDevice(open, 1 + EXTRA_VMS, async ({ device }) => settledKib(device.pid));
  return {
    "memory-device": one.before,
    "memory-device-rss": one.resident,
    "memory-idle-1000": (one.idle - one.before) / CONNECTIONS,
    "memory-used-1000": (one.used - one.before) / CONNECTIONS,
    "memory-extra-vm": (many - one.before) / EXTRA_VMS,
  };
}

interface Attached {
  readonly device: DeviceProcess;
  readonly guest: ReturnType<typeof Program.guest>;
  readonly host: ReturnType<typeof Program.host>;
  readonly progress: Progress;
}

/** With connections that were opened, used for so long or not at all, and are idle since. They are gone afterwards. */
async function withConnections(attached: Attached, durationMs: number): Promise<number> {
  const { device, guest, host, progress } = attached;
  progress.reset();
  const port = 1024 + durationMs;
  await host.ask({ do: "listen", path: `${device.udsPath}_${port}` });
  const sending = { connections: CONNECTIONS, messageBytes: MESSAGE_BYTES, durationMs };
  await Promise.all([
    guest.ask({ do: "send", to: { port }, ...sending }),
    host.ask({ do: "receive", connections: CONNECTIONS, snapshotMs: 0 }),
  ]);
  const held = await settledKib(device.pid);
  await guest.ask({ do: "hang-up" });
  await host.ask({ do: "hang-up" });
  return held;
}

/** A fresh device with a front-end and a driver on each of its VMs, and a host program. */
async function withDevice<T>(open: Open, vms: number, use: (attached: Attached) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "b33-memory-"));
  const progressPath = join(folder, "progress");
  const progress = new Progress(progressPath);
  const stops: (() => void | Promise<void>)[] = [];
  try {
    const device = await open({ folder, vms });
    stops.push(() => device.stop());
    const host = Program.host(progressPath);
    stops.push(() => host.stop());
    const guest = Program.guest("the guest", progressPath);
    stops.push(() => guest.stop());
    for (const socketPath of device.socketPaths)
      await guest.ask({ do: "attach", socketPath, queueSize: QUEUE_SIZE, lazyCredit: false });
    return await use({ device, guest, host, progress });
  } finally {
    for (const stop of stops.reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
