/**
 * The table of metrics: name, type, what it means, and where its samples come from. A name is a promise: it is never
 * renamed and never changes its meaning. docs/metrics.md is made from this table by `npm run docs`.
 * How a page of them is written: `exposition.ts`.
 */
import { REFUSAL_CAUSES, RESET_CAUSES } from "../../vsock/counters.js";
import { type DeviceFigures, MODES, type ProcessFigures, type VmReport } from "./figures.js";
import { BUCKET_BOUNDS, type HistogramFigures } from "./histogram.js";

export type Labels = Readonly<Record<string, string>>;

export interface Sample {
  /** What follows the name: `_bucket`, `_sum`, `_count` of a histogram. */
  readonly suffix?: string;
  readonly labels: Labels;
  readonly value: number;
}

export interface Instrument {
  readonly type: "counter" | "gauge" | "histogram";
  /** One sentence, for the page itself and for the documentation. */
  readonly help: string;
  /** Labels beyond `vm`, with the values that there are. */
  readonly labels?: Readonly<Record<string, readonly string[]>>;
}

interface DeviceInstrument extends Instrument {
  readonly samples: (figures: DeviceFigures) => readonly Sample[];
}

interface VmInstrument extends Instrument {
  readonly samples: (report: VmReport) => readonly Sample[];
}

export interface ProgramFigures {
  readonly version: string;
  readonly process: ProcessFigures;
  /** The most descriptors that the process may have. */
  readonly descriptorLimit: number;
  readonly startedAtMs: number;
}

interface ProgramInstrument extends Instrument {
  readonly samples: (program: ProgramFigures) => readonly Sample[];
}

const DIRECTIONS = ["from_guest", "to_guest"] as const;
const QUEUES = ["rx", "tx"] as const;

/** Of each device, as its thread tells it. */
export const DEVICE_INSTRUMENTS = {
  bit33_bytes_total: {
    type: "counter",
    help: "Payload bytes of packets, by direction.",
    labels: { direction: DIRECTIONS },
    samples: ({ vsock }) => twoWays(vsock.fromGuestBytes, vsock.toGuestBytes),
  },
  bit33_packets_total: {
    type: "counter",
    help: "Packets, those without payload included, by direction.",
    labels: { direction: DIRECTIONS },
    samples: ({ vsock }) => twoWays(vsock.fromGuestPackets, vsock.toGuestPackets),
  },
  bit33_connections: {
    type: "gauge",
    help: "Connections that there are, those being set up or torn down included.",
    samples: ({ connections }) => one(connections),
  },
  bit33_connections_opened_total: {
    type: "counter",
    help: "Connections that were established, by who asked for them: from_guest is the guest.",
    labels: { direction: DIRECTIONS },
    samples: ({ vsock }) => twoWays(vsock.openedByGuest, vsock.openedByHost),
  },
  bit33_connections_refused_total: {
    type: "counter",
    help: "Connections that did not come about: limit is max-connections; host means that nothing took the guest's connection; guest that nothing in the guest took the host's; timeout that the guest did not answer.",
    labels: { reason: REFUSAL_CAUSES },
    samples: ({ vsock }) => byLabel("reason", REFUSAL_CAUSES, vsock.refusedBy),
  },
  bit33_resets_total: {
    type: "counter",
    help: "Connections cut short, and packets answered with a reset: guest is the guest's own reset; violation a guest that broke the protocol or exceeded its credit; host a host program that failed or left without reading everything; timeout a clean close that the guest did not answer; restart a driver or VMM that went; stray a packet that belongs to no connection, or whose address or type is not served.",
    labels: { reason: RESET_CAUSES },
    samples: ({ vsock }) => byLabel("reason", RESET_CAUSES, vsock.resetsBy),
  },
  bit33_credit_stalls_total: {
    type: "counter",
    help: "Times that data for the guest began to wait because the guest had given no credit.",
    samples: ({ vsock }) => one(vsock.creditStalls),
  },
  bit33_kicks_total: {
    type: "counter",
    help: "Kicks of the guest that woke the device, by queue; of a ring that is polled, the looks at it.",
    labels: { queue: QUEUES },
    samples: ({ queues }) => byQueue(queues.receiveKicks, queues.transmitKicks),
  },
  bit33_notifications_total: {
    type: "counter",
    help: "Notifications sent to the guest, by queue.",
    labels: { queue: QUEUES },
    samples: ({ queues }) => byQueue(queues.receiveNotifications, queues.transmitNotifications),
  },
  bit33_batch_packets: {
    type: "histogram",
    help: "Packets moved in one burst, by direction. Bursts that moved none are not counted.",
    labels: { direction: DIRECTIONS },
    samples: ({ queues }) => [
      ...histogram({ direction: "from_guest" }, queues.fromGuestBatches),
      ...histogram({ direction: "to_guest" }, queues.toGuestBatches),
    ],
  },
  bit33_iotlb_hits_total: {
    type: "counter",
    help: "Lookups that found a mapping. 0 while addresses are not translated.",
    samples: ({ iotlb }) => one(iotlb.hits),
  },
  bit33_iotlb_misses_total: {
    type: "counter",
    help: "Lookups that found no mapping.",
    samples: ({ iotlb }) => one(iotlb.misses),
  },
  bit33_iotlb_updates_total: {
    type: "counter",
    help: "UPDATE messages of the VMM that were obeyed.",
    samples: ({ iotlb }) => one(iotlb.updates),
  },
  bit33_iotlb_invalidations_total: {
    type: "counter",
    help: "INVALIDATE messages of the VMM that were obeyed.",
    samples: ({ iotlb }) => one(iotlb.invalidations),
  },
  bit33_iotlb_retired_total: {
    type: "counter",
    help: "Mappings dropped to make room for others. If it rises steadily, the guest uses more pages at once than the IOTLB holds.",
    samples: ({ iotlb }) => one(iotlb.retired),
  },
  bit33_sessions_total: {
    type: "counter",
    help: "Sessions that VMMs have begun.",
    samples: ({ sessions }) => one(sessions),
  },
  bit33_translation_mode: {
    type: "gauge",
    help: "1 for the translation mode of the session that runs, 0 for the others; none while no VMM is connected.",
    labels: { mode: MODES },
    samples: ({ mode }) => MODES.map((each) => ({ labels: { mode: each }, value: each === mode ? 1 : 0 })),
  },
} as const satisfies Readonly<Record<string, DeviceInstrument>>;

/** Of each VM, whether or not its device answers. */
export const VM_INSTRUMENTS = {
  bit33_device_up: {
    type: "gauge",
    help: "1 if the VM's device answered within a second, 0 if not. Its other metrics are missing then.",
    samples: ({ figures }) => one(figures === undefined ? 0 : 1),
  },
  bit33_device_restarts_total: {
    type: "counter",
    help: "Times that the process of the VM's device died and was started again. 0 without --isolate process.",
    samples: ({ restarts }) => one(restarts),
  },
  bit33_device_resident_memory_bytes: {
    type: "gauge",
    help: "Resident memory of the VM's own process, guest memory that it has touched included. Only with --isolate process.",
    samples: ({ process }) => (process === undefined ? [] : one(process.residentBytes)),
  },
  bit33_device_open_fds: {
    type: "gauge",
    help: "Open descriptors of the VM's own process. Only with --isolate process.",
    samples: ({ process }) => (process === undefined ? [] : one(process.openDescriptors)),
  },
  bit33_device_cpu_seconds_total: {
    type: "counter",
    help: "Processor time of the VM's own process. Only with --isolate process.",
    samples: ({ process }) => (process === undefined ? [] : one(process.cpuSeconds)),
  },
} as const satisfies Readonly<Record<string, VmInstrument>>;

/** Of the program; no label `vm`. Those that Prometheus has names for have these names. */
export const PROGRAM_INSTRUMENTS = {
  bit33_build_info: {
    type: "gauge",
    help: "Always 1; the version is in the label.",
    labels: { version: [] },
    samples: ({ version }) => [{ labels: { version }, value: 1 }],
  },
  process_resident_memory_bytes: {
    type: "gauge",
    help: "Resident memory of the main process, guest memory that its devices have touched included.",
    samples: ({ process }) => one(process.residentBytes),
  },
  process_open_fds: {
    type: "gauge",
    help: "Open descriptors of the main process.",
    samples: ({ process }) => one(process.openDescriptors),
  },
  process_max_fds: {
    type: "gauge",
    help: "The most descriptors that the main process may have open.",
    samples: ({ descriptorLimit }) => one(descriptorLimit),
  },
  process_cpu_seconds_total: {
    type: "counter",
    help: "Processor time of the main process, the threads of its devices included.",
    samples: ({ process }) => one(process.cpuSeconds),
  },
  process_start_time_seconds: {
    type: "gauge",
    help: "When the main process began, in seconds since 1970.",
    samples: ({ startedAtMs }) => one(startedAtMs / 1000),
  },
} as const satisfies Readonly<Record<string, ProgramInstrument>>;

function one(value: number): readonly Sample[] {
  return [{ labels: {}, value }];
}

function twoWays(fromGuest: number, toGuest: number): readonly Sample[] {
  return [
    { labels: { direction: "from_guest" }, value: fromGuest },
    { labels: { direction: "to_guest" }, value: toGuest },
  ];
}

/** Names as Linux has them: `rx` is the queue to the guest. */
function byQueue(receive: number, transmit: number): readonly Sample[] {
  return [
    { labels: { queue: "rx" }, value: receive },
    { labels: { queue: "tx" }, value: transmit },
  ];
}

function byLabel<const Name extends string>(
  label: string,
  names: readonly Name[],
  values: Readonly<Record<Name, number>>,
): readonly Sample[] {
  return names.map((name) => ({ labels: { [label]: name }, value: values[name] }));
}

/** Buckets are cumulative in the text format, and the last one is named +Inf. */
function histogram(labels: Labels, { counts, sum }: HistogramFigures): readonly Sample[] {
  let total = 0;
  const buckets = counts.map((count, index): Sample => {
    total += count;
    const le = index < BUCKET_BOUNDS.length ? String(BUCKET_BOUNDS[index]) : "+Inf";
    return { suffix: "_bucket", labels: { ...labels, le }, value: total };
  });
  return [...buckets, { suffix: "_sum", labels, value: sum }, { suffix: "_count", labels, value: total }];
}
