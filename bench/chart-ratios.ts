/**
 * The chart of the contest: how many times the peer and the floor our device does, a row each, on logarithmic axes that
 * begin at 1. Must not know where the verdicts come from.
 */
import { type Extent, logScale, type Scale, writtenTicks } from "./chart-scale.js";
import { box, drawing, heading, label, line, widthOf } from "./chart-svg.js";
import { meets } from "./record.js";
import type { Judged } from "./report-verdict.js";
import { times } from "./report-words.js";
import { ROWS } from "./rows.js";

export interface RatiosChart {
  readonly judged: readonly Judged[];
  /** With its version. */
  readonly peer: string;
  /** What the figures are of, in a line. */
  readonly subtitle: string;
}

const WIDTH = 1000;
const LEFT = 24;
const PEER_PLOT = [330, 600] as const;
const FLOOR_PLOT = [716, 866] as const;
/** From the end of a plot to the values beside it. */
const VALUE_GAP = 10;
const LEGEND_HEIGHT = 30;
/** Of a block: what its axes are of, and their values. */
const HEAD_HEIGHT = 44;
const GROUP_HEIGHT = 30;
const ROW_HEIGHT = 34;
const BAR_HEIGHT = 11;
const BAR_GAP = 3;
const LIMIT_WIDTH = 4;
const FOOT_HEIGHT = 34;

interface Bar {
  readonly ratio: number;
  /** Undefined: there is no bar to meet. */
  readonly isMet: boolean | undefined;
}

/** What is drawn of a row: for the peer, the default buffers and then the equal ones. */
interface ChartRow {
  readonly title: string;
  readonly peer: readonly Bar[];
  readonly peerLimit: number | undefined;
  readonly floor: readonly Bar[];
  readonly floorLimit: number | undefined;
}

interface Group {
  readonly title: string;
  readonly rows: readonly ChartRow[];
}

/** Groups on the same axes. */
type Block = readonly Group[];

export function ratiosChart({ judged, peer, subtitle }: RatiosChart): string {
  const title = `Our device against ${peer} and against bare sockets`;
  const { content, bottom } = heading(title, subtitle, WIDTH);
  const blocks = blocksOf(judged);
  const hasEqual = rowsOf(blocks.flat()).some((row) => row.peer.length > 1);
  content.push(...legend(hasEqual, bottom + LEGEND_HEIGHT / 2));
  let y = bottom + LEGEND_HEIGHT;
  for (const block of blocks) {
    content.push(...blockDrawn(block, y));
    y += HEAD_HEIGHT + bodyHeight(block) + FOOT_HEIGHT;
  }
  const description = `${subtitle} Every figure is in the tables of the page.`;
  return drawing({ width: WIDTH, height: y, title, description, content });
}

function blocksOf(judged: readonly Judged[]): Block[] {
  const rowsWhere = (is: (each: Judged) => boolean): ChartRow[] =>
    judged
      .filter(is)
      .map(chartRow)
      .filter(({ peer, floor }) => peer.length + floor.length > 0);
  // A share of ours has a bar by itself; in proportion to others' shares it says nothing.
  const isCompared = ({ row, verdict }: Judged): boolean =>
    verdict !== "stated" && ROWS[row].bar.own === undefined;
  return [
    [
      { title: "More is better →", rows: rowsWhere((each) => isCompared(each) && each.better === "more") },
      { title: "← Less is better", rows: rowsWhere((each) => isCompared(each) && each.better === "less") },
    ],
    // These differ by so much that the others would hardly be seen on the same axis.
    [{ title: "← Less is better; stated only", rows: rowsWhere(({ verdict }) => verdict === "stated") }],
  ]
    .map((block) => block.filter(({ rows }) => rows.length > 0))
    .filter((block) => block.length > 0);
}

function rowsOf(block: Block): ChartRow[] {
  return block.flatMap(({ rows }) => rows);
}

function bodyHeight(block: Block): number {
  return GROUP_HEIGHT * block.length + ROW_HEIGHT * rowsOf(block).length;
}

function chartRow({ row, better, byDefault, withEqual }: Judged): ChartRow {
  const bars = (
    records: readonly (Judged["byDefault"] | undefined)[],
    against: "peer" | "floor",
    limit: number | undefined,
  ): Bar[] =>
    records
      .flatMap((record) => record?.ratio[against] ?? [])
      .map((ratio) => ({ ratio, isMet: limit === undefined ? undefined : meets({ better }, ratio, limit) }));
  const limitOf = (against: "peer" | "floor"): number | undefined =>
    (byDefault ?? withEqual)?.bar[against] ?? undefined;
  const [peerLimit, floorLimit] = [limitOf("peer"), limitOf("floor")];
  return {
    title: ROWS[row].title,
    peer: bars([byDefault, withEqual], "peer", peerLimit),
    peerLimit,
    floor: bars([byDefault ?? withEqual], "floor", floorLimit),
    floorLimit,
  };
}

function legend(hasEqual: boolean, y: number): string[] {
  const content: string[] = [];
  let x = LEFT;
  for (const [style, text] of [
    ["good", "meets its bar"],
    ["bad", "misses its bar"],
    ["plain", "has no bar"],
  ] as const) {
    content.push(box(x, y - BAR_HEIGHT / 2, 16, BAR_HEIGHT, style), label(x + 22, y, text));
    x += 22 + widthOf(text) + 18;
  }
  content.push(box(x + 6, y - 10, LIMIT_WIDTH, 20, "limit"), label(x + 18, y, "the bar"));
  x += 18 + widthOf("the bar") + 18;
  if (hasEqual) {
    const top = y - BAR_HEIGHT - BAR_GAP / 2;
    content.push(box(x, top, 16, BAR_HEIGHT, "plain"));
    content.push(box(x, top + BAR_HEIGHT + BAR_GAP, 16, BAR_HEIGHT, "plain second"));
    content.push(label(x + 22, y, "above: default buffers; below, paler: both with the same buffer"));
  }
  return content;
}

function blockDrawn(block: Block, blockTop: number): string[] {
  const top = blockTop + HEAD_HEIGHT;
  const bottom = top + bodyHeight(block);
  const rows = rowsOf(block);
  const toPeer = scaleFor(
    rows.flatMap(({ peer, peerLimit }) => [...peer.map(({ ratio }) => ratio), peerLimit ?? 1]),
    PEER_PLOT,
  );
  const content = axis(toPeer, "ours ÷ peer", top, bottom);
  const floors = rows.flatMap(({ floor, floorLimit }) => [
    ...floor.map(({ ratio }) => ratio),
    floorLimit ?? 1,
  ]);
  const toFloor = scaleFor(floors, FLOOR_PLOT);
  if (rows.some(({ floor }) => floor.length > 0))
    content.push(...axis(toFloor, "ours ÷ bare sockets", top, bottom));
  let y = top;
  for (const { title, rows } of block) {
    content.push(label(LEFT, y + GROUP_HEIGHT / 2 + 2, title, "head"));
    y += GROUP_HEIGHT;
    for (const { title, peer, peerLimit, floor, floorLimit } of rows) {
      const middle = y + ROW_HEIGHT / 2;
      content.push(
        label(LEFT + 12, middle, title),
        ...barsDrawn(peer, peerLimit, toPeer, middle, PEER_PLOT[1] + VALUE_GAP),
        ...barsDrawn(floor, floorLimit, toFloor, middle, FLOOR_PLOT[1] + VALUE_GAP),
      );
      y += ROW_HEIGHT;
    }
  }
  return content;
}

function scaleFor(ratios: readonly number[], extent: Extent): Scale {
  return logScale([0.5, 1, 2, ...ratios], extent);
}

function axis(scale: Scale, title: string, top: number, bottom: number): string[] {
  const written = writtenTicks(scale, (tick) => widthOf(times(tick)), 2);
  return [
    label(scale.at(scale.from), top - 30, title, "head"),
    ...scale.ticks.map((tick) =>
      line(scale.at(tick), top, scale.at(tick), bottom, tick === 1 ? "axis" : "grid"),
    ),
    ...written.flatMap((tick) =>
      [top - 9, bottom + 12].map((y) => label(scale.at(tick), y, times(tick), "soft", "middle")),
    ),
  ];
}

function barsDrawn(
  bars: readonly Bar[],
  limit: number | undefined,
  scale: Scale,
  middle: number,
  valueX: number,
): string[] {
  const content: string[] = [];
  const height = bars.length * BAR_HEIGHT + (bars.length - 1) * BAR_GAP;
  for (const [index, { ratio, isMet }] of bars.entries()) {
    const top = middle - height / 2 + index * (BAR_HEIGHT + BAR_GAP);
    const [one, end] = [scale.at(1), scale.at(ratio)];
    const style = isMet === undefined ? "plain" : isMet ? "good" : "bad";
    const paler = index === 0 ? "" : " second";
    content.push(
      box(Math.min(one, end), top, Math.max(1, Math.abs(end - one)), BAR_HEIGHT, `${style}${paler}`),
      label(
        valueX,
        top + BAR_HEIGHT / 2,
        isMet === false ? `${times(ratio)} missed` : times(ratio),
        isMet === false ? "bad" : "",
      ),
    );
  }
  if (limit !== undefined && bars.length > 0)
    content.push(
      box(
        scale.at(limit) - LIMIT_WIDTH / 2,
        middle - ROW_HEIGHT / 2 + 2,
        LIMIT_WIDTH,
        ROW_HEIGHT - 4,
        "limit",
      ),
    );
  return content;
}
