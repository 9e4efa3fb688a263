/** The tables on what stands beside the contest: the machine, translation, siblings, the curves and the soak. */
import { type CurvePoints, unitOf } from "./chart-curves.js";
import { CURVES } from "./curves-points.js";
import type { Results, SoakEnd } from "./report-lines.js";
import { figure, figures, limit, NONE, percent, table, times, words } from "./report-words.js";
import { ROWS, type RowName } from "./rows.js";
import { SIBLING_ROWS, type SiblingRecord } from "./siblings-rows.js";
import { significant } from "./statistics.js";
import type { TranslationRecord, Variant } from "./translation-rows.js";

export function machinesTable(machines: Results["machines"]): string {
  const columns = ["figures", "measured", "commit", "machine", "kernel", "node", "peer", "remark"].map(words);
  const rows = machines.map(({ file, machine }) => {
    const { cores, cpu, isVirtual, memoryMiB, governor, loadBefore, hasChanges } = machine;
    const processors = `${cores} × ${cpu}${isVirtual ? " (a virtual machine)" : ""}`;
    const remarks = [
      machine.note,
      governor === null ? null : `governor ${governor}`,
      ...(loadBefore === null ? [] : [`load before ${loadBefore}`]),
    ].filter((remark) => remark !== null);
    return [
      `\`${file}\``,
      machine.date,
      machine.commit === null ? NONE : `${machine.commit}${hasChanges === true ? ", changed" : ""}`,
      `${processors}, ${(memoryMiB / 1024).toFixed(1)} GiB`,
      machine.kernel,
      machine.node,
      machine.peer ?? "not installed",
      remarks.join("; "),
    ];
  });
  return table(columns, rows);
}

/** What a row on translation is, in words: the way of addressing, and the work. */
function translationWords({ row }: TranslationRecord): readonly [how: string, work: string] {
  const [, variant, work] = /^translation-([a-z]+)-(.+)$/.exec(row) ?? [];
  const how = Object.hasOwn(HOW, variant ?? "") ? HOW[variant as keyof typeof HOW] : variant;
  return [how ?? row, Object.hasOwn(ROWS, work ?? "") ? ROWS[work as RowName].title : (work ?? "")];
}

const HOW: Readonly<Record<Exclude<Variant, "off">, string>> = {
  on: "everything mapped beforehand, page by page",
  strict: "strict unmapping",
  pipelined: "strict unmapping, pipelined",
};

export function translationTable(records: readonly TranslationRecord[]): string {
  const columns = [
    ...["row", "translation", "work"].map(words),
    ...["ours", "spread", "translation off", "spread"].map(figures),
    words("unit"),
    ...["ours ÷ off", "bar"].map(figures),
    words("verdict"),
  ];
  const rows = records.map((record) => [
    `\`${record.row}\``,
    ...translationWords(record),
    figure(record.ours),
    percent(record.spread.ours),
    figure(record.off),
    percent(record.spread.off),
    record.unit,
    times(record.ratio.off),
    limit("more", record.bar.off),
    record.met === null ? "" : record.met ? "met" : "**MISSED**",
  ]);
  return table(columns, rows);
}

export function siblingsTable(records: readonly SiblingRecord[]): string {
  const columns = [
    ...["row", "work", "buffers"].map(words),
    ...["ours", "spread", "peer", "spread"].map(figures),
    words("unit"),
    ...["ours ÷ peer", "bar", "rounds"].map(figures),
    words("verdict"),
  ];
  const rows = records.map((record) => [
    `\`${record.row}\``,
    SIBLING_ROWS[record.row],
    record.setting === "equal" ? "the same for both" : "as each comes",
    figure(record.ours),
    percent(record.spread.ours),
    figure(record.peer),
    percent(record.spread.peer),
    record.unit,
    times(record.ratio),
    limit("more", record.bar),
    String(record.rounds),
    record.met === null ? "" : record.met ? "met" : "**MISSED**",
  ]);
  return table(columns, rows);
}

/** Where the time goes. */
export function translationTimeTable(records: readonly TranslationRecord[]): string {
  const columns = [
    words("row"),
    ...["misses per MiB", "updates per MiB", "unmappings per MiB"].map(figures),
    ...["guest waits for unmapping", "front-end answers misses"].map(figures),
    ...["device busy", "driver busy", "device, s/GiB", "off, s/GiB"].map(figures),
  ];
  const rows = records.map(({ row, perMiB, time, cpu }) => [
    `\`${row}\``,
    ...[perMiB.misses, perMiB.updates, perMiB.invalidations].map((count) => figure(count)),
    ...[time.unmapping, time.answering, time.deviceCpu, time.driverCpu].map(percent),
    figure(cpu.ours),
    figure(cpu.off),
  ]);
  return table(columns, rows);
}

/** A table for each curve, a column for each of its points. */
export function curveTables(curves: readonly CurvePoints[]): string {
  return curves
    .map((points) => {
      const [first] = points;
      const { title, of } = CURVES[first.curve];
      const heading = `\`${first.curve}\`: ${title}`;
      const values = table(
        [words(of), ...points.map(({ x }) => figures(figure(x)))],
        [
          [unitOf(first), ...points.map(({ value }) => figure(value))],
          ["÷ the first", ...points.map(({ relative }) => times(relative))],
          ["spread", ...points.map(({ spread }) => percent(spread))],
        ],
      );
      return `${heading}\n\n${values}`;
    })
    .join("\n\n");
}

export function soakText(end: SoakEnd): string {
  const { verdict, minutes, opened, movedMiB, reboots, corrupt, failures, late, load, seed } = end;
  const columns = [
    words("of the device"),
    ...["first third", "second", "last", "growth", "allowed"].map(figures),
    words("verdict"),
  ];
  const rows = Object.entries(end.trends).map(([metric, { thirds, growth, allowed, isGrowing }]) => {
    const unit = metric.endsWith("Bytes") ? "MiB" : "";
    const told = (value: number): string =>
      figure(significant(unit === "MiB" ? value / 2 ** 20 : value), unit);
    return [
      metric.replace(/Bytes$/, ""),
      ...thirds.map(told),
      told(growth),
      told(allowed),
      isGrowing ? "**GROWS**" : "flat",
    ];
  });
  const text = `${minutes} minutes, ${figure(opened)} connections, ${figure(movedMiB)} MiB, ${reboots} restarts of VMs, at a load of ${load} processors (seed ${seed}): **${verdict}**. Bytes that were wrong: ${corrupt}; scenes that ended otherwise than they had to: ${failures}; too late: ${late}.`;
  return `${text}\n\n${table(columns, rows)}`;
}
