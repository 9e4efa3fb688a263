/**
 * What is measured, as data: the kinds of work that are run, and the rows that are read off them, with the bar of each.
 * The two settings in which all of it is run are here as well.
 * The names of rows are stable: regression checks compare them from one version to the next.
 */

/** Each device as it comes; both advertising buffers of the same size to a connection. A bar holds in both. */
export const SETTINGS = ["default", "equal"] as const;
export type Setting = (typeof SETTINGS)[number];

/** Whether more or less is better, which also says which way a bar is to be read. */
export type Better = "more" | "less";

export interface Bar {
  /** Ours against the peer: at least this, or at most this where less is better. Undefined: stated only. */
  readonly peer?: number;
  /** Ours against the floor, likewise. */
  readonly floor?: number;
  /** Ours by itself, for a figure that is a share already. */
  readonly own?: number;
}

export const ROW_NAMES = [
  "g2h-64k",
  "g2h-4k",
  "g2h-256",
  "h2g-64k",
  "h2g-4k",
  "h2g-256",
  "rtt-64-median",
  "rtt-64-p99",
  "open-guest-1",
  "open-host-1",
  "open-guest-16",
  "open-host-16",
  "cpu-g2h-64k",
  "cpu-g2h-4k",
  "cpu-h2g-64k",
  "cpu-h2g-4k",
  "many-1000-total",
  "many-1000-slowest",
] as const;

/** Rows that are stated beside the peer's, without a bar, and not measured on rings (`memory.ts`, `start.ts`). */
export const STATED_ROW_NAMES = [
  "memory-device",
  "memory-device-rss",
  "memory-idle-1000",
  "memory-used-1000",
  "memory-extra-vm",
  "start-listening",
  "start-answering",
] as const;
export type StatedRowName = (typeof STATED_ROW_NAMES)[number];

export type RowName = (typeof ROW_NAMES)[number] | StatedRowName;

export interface Row {
  readonly title: string;
  readonly unit: "MiB/s" | "µs" | "1/s" | "s/GiB" | "of mean" | "KiB" | "ms";
  readonly better: Better;
  readonly bar: Bar;
}

function throughput(title: string, bar: Bar): Row {
  return { title, unit: "MiB/s", better: "more", bar };
}

function cpu(title: string, peer: number): Row {
  return { title, unit: "s/GiB", better: "less", bar: { peer } };
}

function opened(title: string, peer: number): Row {
  return { title, unit: "1/s", better: "more", bar: { peer } };
}

function stated(title: string, unit: "KiB" | "ms"): Row {
  return { title, unit, better: "less", bar: {} };
}

export const ROWS: Readonly<Record<RowName, Row>> = {
  "g2h-64k": throughput("guest to host, messages of 64 KiB", { peer: 2, floor: 0.8 }),
  "g2h-4k": throughput("guest to host, messages of 4 KiB", { peer: 2, floor: 0.85 }),
  "g2h-256": throughput("guest to host, messages of 256 B", { peer: 1.8, floor: 0.9 }),
  "h2g-64k": throughput("host to guest, writes of 64 KiB", { peer: 8, floor: 0.6 }),
  "h2g-4k": throughput("host to guest, writes of 4 KiB", { peer: 4.5, floor: 0.75 }),
  "h2g-256": throughput("host to guest, writes of 256 B", { peer: 1.1, floor: 0.8 }),
  "rtt-64-median": { title: "round trip of 64 B, median", unit: "µs", better: "less", bar: { peer: 0.7 } },
  "rtt-64-p99": { title: "round trip of 64 B, p99", unit: "µs", better: "less", bar: { peer: 0.75 } },
  "open-guest-1": opened("opened and closed by the guest, one at a time", 1.1),
  "open-host-1": opened("opened and closed by the host, one at a time", 1.2),
  "open-guest-16": opened("opened and closed by the guest, 16 at a time", 2),
  "open-host-16": opened("opened and closed by the host, 16 at a time", 1.8),
  "cpu-g2h-64k": cpu("CPU of the device, guest to host, 64 KiB", 0.6),
  "cpu-g2h-4k": cpu("CPU of the device, guest to host, 4 KiB", 0.5),
  "cpu-h2g-64k": cpu("CPU of the device, host to guest, 64 KiB", 0.2),
  "cpu-h2g-4k": cpu("CPU of the device, host to guest, 4 KiB", 0.3),
  "many-1000-total": throughput("1000 connections, guest to host, 4 KiB", { peer: 2, floor: 0.9 }),
  "many-1000-slowest": {
    title: "1000 connections: the slowest one's share",
    unit: "of mean",
    better: "more",
    bar: { own: 0.9 },
  },
  "memory-device": stated("memory of a device with one VM, attached", "KiB"),
  "memory-device-rss": stated("the same, with the pages of its program", "KiB"),
  "memory-idle-1000": stated("1000 idle connections: memory of each", "KiB"),
  "memory-used-1000": stated("1000 connections after use: memory of each", "KiB"),
  "memory-extra-vm": stated("memory of each further VM in one daemon", "KiB"),
  "start-listening": stated("from exec until it listens", "ms"),
  "start-answering": stated("from exec until it answers", "ms"),
};

/** One thing to run; what it yields are the values of one or more rows. */
export type Work =
  | {
      readonly kind: "to-host";
      readonly messageBytes: number;
      readonly connections: number;
      readonly rows: StreamRows;
    }
  | { readonly kind: "to-guest"; readonly messageBytes: number; readonly rows: StreamRows }
  | { readonly kind: "round-trip"; readonly messageBytes: number }
  | { readonly kind: "open-by-guest"; readonly atATime: number; readonly row: RowName }
  | { readonly kind: "open-by-host"; readonly atATime: number; readonly row: RowName };

export interface StreamRows {
  readonly rate: RowName;
  readonly cpu?: RowName;
  readonly slowest?: RowName;
}

const KIB = 1024;

export const WORKS: readonly Work[] = [
  toHost(64 * KIB, { rate: "g2h-64k", cpu: "cpu-g2h-64k" }),
  toHost(4 * KIB, { rate: "g2h-4k", cpu: "cpu-g2h-4k" }),
  toHost(256, { rate: "g2h-256" }),
  { kind: "to-guest", messageBytes: 64 * KIB, rows: { rate: "h2g-64k", cpu: "cpu-h2g-64k" } },
  { kind: "to-guest", messageBytes: 4 * KIB, rows: { rate: "h2g-4k", cpu: "cpu-h2g-4k" } },
  { kind: "to-guest", messageBytes: 256, rows: { rate: "h2g-256" } },
  { kind: "round-trip", messageBytes: 64 },
  { kind: "open-by-guest", atATime: 1, row: "open-guest-1" },
  { kind: "open-by-host", atATime: 1, row: "open-host-1" },
  { kind: "open-by-guest", atATime: 16, row: "open-guest-16" },
  { kind: "open-by-host", atATime: 16, row: "open-host-16" },
  toHost(4 * KIB, { rate: "many-1000-total", slowest: "many-1000-slowest" }, 1000),
];

function toHost(messageBytes: number, rows: StreamRows, connections = 1): Work {
  return { kind: "to-host", messageBytes, connections, rows };
}

export function rowsOf(work: Work): RowName[] {
  switch (work.kind) {
    case "to-host":
    case "to-guest":
      return [work.rows.rate, work.rows.cpu, work.rows.slowest].filter((row) => row !== undefined);
    case "round-trip":
      return ["rtt-64-median", "rtt-64-p99"];
    case "open-by-guest":
    case "open-by-host":
      return [work.row];
  }
}
