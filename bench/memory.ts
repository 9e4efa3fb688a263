/**
 * The rows on memory: what a device holds with a VM attached, what a connection adds, and what a further VM in the same
 * daemon does. Each value is of a fresh process, so that nothing is there already because of what was before.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DeviceOptions, DeviceProcess } from "./device-process.js";
import { Program } from "./program.js";
import { Progress } from "./progress.js";
import { type BenchRecord, makeRecord } from "./record.js";
import { residentKib, settledKib } from "./resident.js";

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
  const values = (side: "ours" | "peer", row: MemoryRow): number[] => found[side].map((each) => each[row]);
  return MEMORY_ROWS.map((row) =>
    makeRecord(row, { ours: values("ours", row), peer: values("peer", row), floor: [] }),
  );
}

type Open = (options: DeviceOptions) => Promise<DeviceProcess>;

/** All rows, of one kind of device. */
async function measureOne(open: Open, { useMs }: MemoryOptions): Promise<Found> {
  const idle = await withDevice(open, 1, connectionsUsedFor(0));
  const used = await withDevice(open, 1, connectionsUsedFor(useMs));
  const many = await withDevice(open, 1 + EXTRA_VMS, async ({ device }) => settledKib(device.pid));
  return {
    "memory-device": idle.before,
    "memory-device-rss": idle.resident,
    "memory-idle-1000": (idle.with - idle.before) / CONNECTIONS,
    "memory-used-1000": (used.with - used.before) / CONNECTIONS,
    "memory-extra-vm": (many - idle.before) / EXTRA_VMS,
  };
}

interface Attached {
  readonly device: DeviceProcess;
  readonly guest: ReturnType<typeof Program.guest>;
  readonly host: ReturnType<typeof Program.host>;
}

interface Held {
  readonly resident: number;
  readonly before: number;
  readonly with: number;
}

/** Before there are connections, and with them: opened, used for so long or not at all, and idle since. */
function connectionsUsedFor(durationMs: number) {
  return async ({ device, guest, host }: Attached): Promise<Held> => {
    const before = await settledKib(device.pid);
    const resident = residentKib(device.pid);
    const port = 1024;
    await host.ask({ do: "listen", path: `${device.udsPath}_${port}` });
    const sending = { connections: CONNECTIONS, messageBytes: MESSAGE_BYTES, durationMs };
    await Promise.all([
      guest.ask({ do: "send", to: { port }, ...sending }),
      host.ask({ do: "receive", connections: CONNECTIONS, snapshotMs: 0 }),
    ]);
    return { resident, before, with: await settledKib(device.pid) };
  };
}

/** A fresh device with a front-end and a driver on each of its VMs, and a host program. */
async function withDevice<T>(open: Open, vms: number, use: (attached: Attached) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "b33-memory-"));
  const progressPath = join(folder, "progress");
  new Progress(progressPath).reset();
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
    return await use({ device, guest, host });
  } finally {
    for (const stop of stops.reverse()) await stop();
    rmSync(folder, { recursive: true, force: true });
  }
}
