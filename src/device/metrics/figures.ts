/**
 * The numbers of one device at one moment, as its thread hands them over when they are asked for: plain data that can
 * cross a thread or a process. Nothing is shared and nothing copied until somebody asks, so the data plane does no more
 * than count in its own fields. What the numbers are called for Prometheus: `instruments.ts`.
 */
import type { IotlbStatistics } from "../../memory/iotlb.js";
import type { SwitchCounters } from "../../vsock/counters.js";
import type { HistogramFigures } from "./histogram.js";
import type { QueueCounters } from "./queue-counters.js";

/** Of the session that runs; `none` while no VMM is connected. */
export const MODES = ["none", "undecided", "off", "on"] as const;
export type Mode = (typeof MODES)[number];

export interface DeviceFigures {
  readonly connections: number;
  /** Sessions that VMMs have begun. */
  readonly sessions: number;
  readonly mode: Mode;
  readonly vsock: Readonly<SwitchCounters>;
  readonly queues: {
    readonly receiveKicks: number;
    readonly transmitKicks: number;
    readonly receiveNotifications: number;
    readonly transmitNotifications: number;
    readonly fromGuestBatches: HistogramFigures;
    readonly toGuestBatches: HistogramFigures;
  };
  readonly iotlb: Readonly<IotlbStatistics>;
}

/** Plain data of the counters, which are objects with methods. */
export function queueFigures(counters: QueueCounters): DeviceFigures["queues"] {
  const { receiveKicks, transmitKicks, receiveNotifications, transmitNotifications } = counters;
  return {
    receiveKicks,
    transmitKicks,
    receiveNotifications,
    transmitNotifications,
    fromGuestBatches: counters.fromGuestBatches.figures,
    toGuestBatches: counters.toGuestBatches.figures,
  };
}

/** Each session has an IOTLB of its own; what is reported is the device's. */
export function addIotlb(sum: IotlbStatistics, more: Readonly<IotlbStatistics>): IotlbStatistics {
  return {
    hits: sum.hits + more.hits,
    misses: sum.misses + more.misses,
    updates: sum.updates + more.updates,
    invalidations: sum.invalidations + more.invalidations,
    retired: sum.retired + more.retired,
  };
}

/** The process that a device runs in. */
export interface ProcessFigures {
  readonly pid: number;
  readonly residentBytes: number;
  readonly openDescriptors: number;
  readonly cpuSeconds: number;
}

/** One VM as the main thread sees it. */
export interface VmReport {
  readonly cid: number;
  /** Absent if the device did not answer in time, or is being started again. */
  readonly figures: DeviceFigures | undefined;
  /** The device's own process (`--isolate process`); absent for a thread. */
  readonly process: ProcessFigures | undefined;
  /** How often its process was started again. */
  readonly restarts: number;
}
