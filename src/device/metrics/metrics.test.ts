/** Metrics: the histogram's buckets, and the page as Prometheus reads it. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { SwitchCounters } from "../../vsock/counters.js";
import { metricsPage } from "./exposition.js";
import { addIotlb, type DeviceFigures, queueFigures, type VmReport } from "./figures.js";
import { BUCKET_BOUNDS, Histogram } from "./histogram.js";
import { DEVICE_INSTRUMENTS, type Instrument, PROGRAM_INSTRUMENTS, VM_INSTRUMENTS } from "./instruments.js";
import { QueueCounters } from "./queue-counters.js";

const IOTLB = { hits: 7, misses: 2, updates: 3, invalidations: 1, retired: 0 };
const PROCESS = { pid: 1, residentBytes: 1000, openDescriptors: 20, cpuSeconds: 0.5 };
const PROGRAM = { version: "1.2.3", process: PROCESS, descriptorLimit: 1024, startedAtMs: 5000 };

function figures(): DeviceFigures {
  const queues = new QueueCounters();
  queues.fromGuestBatches.add(3);
  const vsock = new SwitchCounters();
  vsock.fromGuestBytes = 2 ** 40;
  return { connections: 2, sessions: 1, mode: "off", vsock, queues: queueFigures(queues), iotlb: IOTLB };
}

function report(cid: number, more: Partial<VmReport> = {}): VmReport {
  return { cid, figures: figures(), process: undefined, restarts: 0, ...more };
}

describe("a histogram", () => {
  it("puts each number into the first bucket whose bound it does not exceed", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5000 }), (value) => {
        const histogram = new Histogram();
        histogram.add(value);
        const bucket = BUCKET_BOUNDS.findIndex((bound) => value <= bound);
        const { counts, sum } = histogram.figures;
        assert.equal(counts.indexOf(1), bucket < 0 ? BUCKET_BOUNDS.length : bucket);
        assert.equal(sum, value);
      }),
    );
  });
});

describe("the metrics page", () => {
  const page = metricsPage(PROGRAM, [report(3), report(4), report(5, { figures: undefined })]);
  const lines = page.trimEnd().split("\n");

  it("holds every metric once, with HELP and TYPE before its samples", () => {
    const seen = new Set<string>();
    let current = "";
    for (const line of lines) {
      const help = /^# HELP (\S+) \S/.exec(line);
      if (help !== null) {
        assert.ok(!seen.has(help[1]), line);
        seen.add(help[1]);
        current = help[1];
      } else if (line.startsWith("#")) {
        assert.match(line, new RegExp(`^# TYPE ${current} (counter|gauge|histogram)$`));
      } else {
        assert.match(line, /^[a-z_0-9]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? [\d.e+-]+$/);
        assert.ok(line.startsWith(current), line);
      }
    }
    assert.ok(seen.has("bit33_bytes_total"));
  });

  it("names the VM in each sample of a device, and leaves out a device that does not answer", () => {
    assert.ok(lines.includes('bit33_bytes_total{vm="3",direction="from_guest"} 1099511627776'));
    assert.ok(lines.includes('bit33_connections{vm="4"} 2'));
    assert.ok(lines.includes('bit33_device_up{vm="4"} 1'));
    assert.ok(lines.includes('bit33_device_up{vm="5"} 0'));
    assert.ok(!lines.includes('bit33_connections{vm="5"} 2'));
  });

  it("counts the buckets of a histogram up to +Inf", () => {
    const buckets = lines.filter((line) =>
      line.startsWith('bit33_batch_packets_bucket{vm="3",direction="from_guest"'),
    );
    assert.deepEqual(
      buckets.map((line) => Number(line.split(" ")[1])),
      [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1],
    );
    assert.match(buckets[buckets.length - 1], /le="\+Inf"/);
    assert.ok(lines.includes('bit33_batch_packets_sum{vm="3",direction="from_guest"} 3'));
    assert.ok(lines.includes('bit33_batch_packets_count{vm="3",direction="from_guest"} 1'));
  });

  it("tells the memory of a process only where a VM has one", () => {
    const isolated = metricsPage(PROGRAM, [report(3, { process: PROCESS, restarts: 2 })]);
    assert.match(isolated, /^bit33_device_resident_memory_bytes\{vm="3"\} 1000$/m);
    assert.match(isolated, /^bit33_device_restarts_total\{vm="3"\} 2$/m);
    assert.doesNotMatch(page, /bit33_device_resident_memory_bytes/);
  });

  it("escapes what would break a line", () => {
    const odd = metricsPage({ ...PROGRAM, version: 'a"b\\c\nd' }, []);
    assert.ok(odd.includes('bit33_build_info{version="a\\"b\\\\c\\nd"} 1\n'));
  });

  it("has no sample with a label that the table does not name", () => {
    for (const [name, { labels = {} }] of Object.entries<Instrument>(DEVICE_INSTRUMENTS)) {
      const allowed = new Set(["vm", "le", ...Object.keys(labels)]);
      for (const line of lines.filter((each) => each.startsWith(`${name}{`))) {
        for (const [, label] of line.matchAll(/([a-z]+)="/g)) assert.ok(allowed.has(label), line);
      }
    }
  });

  it("has names that begin as they should, with units and _total where a number only rises", () => {
    const all = { ...PROGRAM_INSTRUMENTS, ...VM_INSTRUMENTS, ...DEVICE_INSTRUMENTS };
    for (const [name, { type, help }] of Object.entries(all)) {
      assert.match(name, /^(bit33|process)_[a-z_]+$/);
      assert.equal(name.endsWith("_total"), type === "counter", name);
      assert.match(help, /^[A-Z1].*\.$/, name);
    }
  });
});

describe("the IOTLB's numbers", () => {
  it("add up over the sessions of a device", () => {
    assert.deepEqual(addIotlb(IOTLB, IOTLB), {
      hits: 14,
      misses: 4,
      updates: 6,
      invalidations: 2,
      retired: 0,
    });
  });
});
