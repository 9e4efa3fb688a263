/** The tables on the contest: our device, the peer and the floor. Must not know where the records come from. */
import type { BenchRecord, Side } from "./record.js";
import type { Judged } from "./report-verdict.js";
import { figure, figures, limit, NONE, percent, table, times, words } from "./report-words.js";
import { ROWS, type RowName, rowsOf, WORKS } from "./rows.js";

/** What is measured beside the contest, and has bars. */
export interface Besides {
  readonly works: string;
  readonly records: readonly { readonly row: string; readonly met: boolean | null }[];
}

/** What there is to know in one paragraph: what is met, what is missed, what is worse, what nobody measured. */
export function summary(judged: readonly Judged[], besides: readonly Besides[]): string {
  const barred = judged.filter(({ verdict }) => verdict !== "stated");
  const others = besides.flatMap(({ records }) => records).filter(({ met }) => met !== null);
  const met = [...barred.filter(({ verdict }) => verdict === "met"), ...others.filter((each) => each.met)];
  const missed = [
    ...barred.filter(({ verdict }) => verdict === "missed").map((each) => coded(each, each.missed)),
    ...others.filter((each) => each.met === false).map((each) => coded(each)),
  ];
  const worse = judged.filter(({ isWorseThanPeer }) => isWorseThanPeer).map((each) => coded(each));
  const lacking = barred
    .filter(({ unchecked }) => unchecked.length > 0)
    .map((each) => coded(each, each.unchecked));
  for (const { works, records } of besides) if (!records.some(({ met }) => met !== null)) lacking.push(works);
  return [
    `**${met.length} of ${barred.length + others.length} rows meet their bars.**`,
    missed.length === 0 ? "None misses one." : `Missed: ${missed.join(", ")}.`,
    worse.length === 0
      ? "In none of the rows measured does the peer do better."
      : `The peer does better in: ${worse.join(", ")}.`,
    ...(lacking.length === 0 ? [] : [`Not measured: ${lacking.join(", ")}.`]),
  ].join(" ");
}

export function barsTable(judged: readonly Judged[]): string {
  const columns = [
    words("row"),
    words("work"),
    figures("ours"),
    figures("peer"),
    figures("floor"),
    words("unit"),
    figures("ours ÷ peer"),
    figures("equal buffers"),
    figures("bar"),
    figures("ours ÷ floor"),
    figures("bar"),
    words("verdict"),
  ];
  const rows = judged
    .filter(({ verdict }) => verdict !== "stated")
    .map((each) => {
      const { row, better, byDefault, withEqual } = each;
      const { title, unit, bar: rowBar } = ROWS[row];
      const some = byDefault ?? withEqual;
      const bar = some?.bar ?? { peer: null, floor: null, own: null, ...rowBar };
      return [
        `\`${row}\``,
        title,
        figure(some?.ours),
        figure(some?.peer),
        figure(some?.floor),
        unit,
        times(byDefault?.ratio.peer),
        times(withEqual?.ratio.peer),
        limit(better, bar.peer) || limit(better, bar.own, ` ${unit}`),
        times((byDefault ?? withEqual)?.ratio.floor),
        limit(better, bar.floor),
        verdictWords(each),
      ];
    });
  return table(columns, rows);
}

function verdictWords({ verdict, missed, unchecked }: Judged): string {
  const open = unchecked.length === 0 ? "" : `; not measured: ${unchecked.join(", ")}`;
  switch (verdict) {
    case "missed":
      return `**MISSED**: ${missed.join(", ")}${open}`;
    case "unchecked":
      return open.slice(2);
    case "met":
      return "met";
    case "stated":
      return "";
  }
}

/** Rows that have no bar; undefined if none was measured. */
export function statedTable(judged: readonly Judged[]): string | undefined {
  const rows = judged.flatMap(({ row, byDefault, verdict }) => {
    if (verdict !== "stated" || byDefault === undefined) return [];
    const { ours, peer, ratio, spread, parts } = byDefault;
    const made = Object.entries(parts ?? {}).map(([name, value]) => `${name} ${figure(value)}`);
    return [
      [
        `\`${row}\``,
        ROWS[row].title,
        figure(ours),
        percent(spread.ours),
        figure(peer),
        percent(spread.peer),
        ROWS[row].unit,
        times(ratio.peer),
        made.join(", "),
      ],
    ];
  });
  const columns = [
    words("row"),
    words("what"),
    figures("ours"),
    figures("spread"),
    figures("peer"),
    figures("spread"),
    words("unit"),
    figures("ours ÷ peer"),
    words("ours is made of"),
  ];
  return rows.length === 0 ? undefined : table(columns, rows);
}

/** Every figure of the contest with its spread, in both settings. */
export function figuresTable(judged: readonly Judged[]): string {
  const columns = [
    words("row"),
    words("buffers"),
    ...["ours", "peer", "floor"].flatMap((side) => [figures(side), figures("spread")]),
    words("unit"),
    figures("rounds"),
    figures("left out"),
  ];
  const rows = judged
    .filter(({ verdict }) => verdict !== "stated")
    .flatMap(({ byDefault, withEqual }) => [byDefault, withEqual])
    .filter((record) => record !== undefined)
    .map((record) => [
      `\`${record.row}\``,
      buffersOf(record),
      ...(["ours", "peer", "floor"] as const).flatMap((side) => [
        figure(record[side]),
        percent(record.spread[side]),
      ]),
      record.unit,
      String(record.rounds),
      String(record.leftOut),
    ]);
  return table(columns, rows);
}

function buffersOf({ setting, buffers: { ours, peer } }: BenchRecord): string {
  const kib = (bytes: number | null): string => (bytes === null ? NONE : `${bytes / 1024}`);
  return setting === "equal" ? `equal: ${kib(ours)} KiB` : `default: ${kib(ours)}, ${kib(peer)} KiB`;
}

/** One row for each kind of work: its others have the same runs. */
const FIRST_ROWS: ReadonlySet<RowName> = new Set(WORKS.map((work) => rowsOf(work)[0]));

/** Who was busy for how much of the time, one processor being 100 %. */
export function busyTable(judged: readonly Judged[]): string {
  const columns = [
    words("runs of"),
    words("buffers"),
    ...["device", "driver", "host"].map((who) => figures(`ours: ${who}`)),
    ...["device", "driver", "host"].map((who) => figures(`peer: ${who}`)),
    ...["driver", "host"].map((who) => figures(`floor: ${who}`)),
    words("our threads"),
  ];
  const rows = judged
    .filter(({ row }) => FIRST_ROWS.has(row))
    .flatMap(({ byDefault, withEqual }) => [byDefault, withEqual])
    .filter((record) => record !== undefined)
    .map((record) => {
      const programs = (side: Side): string[] => [
        percent(record.driverBusy[side]),
        percent(record.hostBusy[side]),
      ];
      return [
        `\`${record.row}\``,
        record.setting,
        percent(record.deviceBusy.ours),
        ...programs("ours"),
        percent(record.deviceBusy.peer),
        ...programs("peer"),
        ...programs("floor"),
        record.threads.ours.map(({ name, busy }) => `${name} ${percent(busy)}`).join(", "),
      ];
    });
  return table(columns, rows);
}

function coded({ row }: { readonly row: string }, what: readonly string[] = []): string {
  return what.length === 0 ? `\`${row}\`` : `\`${row}\` (${what.join(", ")})`;
}
