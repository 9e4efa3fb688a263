/** What docs/metrics.md says: the table of metrics, printed. Must not know where the file is. */
import {
  DEVICE_INSTRUMENTS,
  type Instrument,
  PROGRAM_INSTRUMENTS,
  VM_INSTRUMENTS,
} from "../src/device/metrics/instruments.js";

const HEAD = `# Metrics

\`bit33 serve --metrics 127.0.0.1:9464\` answers \`GET /metrics\` in Prometheus' text format (0.0.4). A name is a promise: it
is never renamed and never changes its meaning. The page asks each device when it is itself asked for, and a device
answers between two bursts, so counting costs the data plane nothing but the additions. \`bit33 ctl stats --json\` prints
the same numbers of each VM.

There is no password and no TLS: whoever reaches the address sees how much each VM moves, and nothing of what. Choose a
loopback address, or one that only the collector reaches. At most 16 clients are served at a time.

Counters begin with the device's start: a VM that is removed and added, or whose process was started again, begins at 0,
as Prometheus expects of counters.

    scrape_configs:
      - job_name: bit33
        static_configs:
          - targets: ["127.0.0.1:9464"]

This page is made from the tables in \`src/device/metrics/instruments.ts\` by \`npm run docs\`.`;

const PARTS = [
  { title: "Of each device", instruments: DEVICE_INSTRUMENTS, always: ["`vm`"] },
  { title: "Of each VM, whether or not its device answers", instruments: VM_INSTRUMENTS, always: ["`vm`"] },
  { title: "Of the program", instruments: PROGRAM_INSTRUMENTS, always: [] },
] as const;

export function metricsDocument(): string {
  const parts = PARTS.map(({ title, instruments, always }) => {
    const rows = Object.entries<Instrument>(instruments).map(([name, { type, help, labels = {} }]) => {
      const own = Object.entries(labels).map(([label, values]) =>
        values.length === 0 ? `\`${label}\`` : `\`${label}\`: ${values.join(", ")}`,
      );
      return `| \`${name}\` | ${type} | ${[...always, ...own].join("; ")} | ${help} |`;
    });
    return [`## ${title}`, "", "| name | type | labels | meaning |", "|---|---|---|---|", ...rows].join("\n");
  });
  return `${[HEAD, ...parts].join("\n\n")}\n`;
}
