/** How figures are written in a report, and tables in Markdown. Must not know what the figures are of. */

/** What stands where nothing was measured. */
export const NONE = "–";

export function figure(value: number | null | undefined, unit = ""): string {
  if (value === null || value === undefined) return NONE;
  return unit === "" ? grouped(value) : `${grouped(value)} ${unit}`;
}

export function times(ratio: number | null | undefined): string {
  return ratio === null || ratio === undefined ? NONE : `${grouped(ratio)}×`;
}

export function percent(share: number | null | undefined): string {
  return share === null || share === undefined ? NONE : `${Math.round(share * 100)} %`;
}

/** The limit of a bar, such as `≥ 2×`. */
export function limit(better: "more" | "less", bar: number | null, unit = "×"): string {
  return bar === null ? "" : `${better === "more" ? "≥" : "≤"} ${bar}${unit}`;
}

/** From 10 000 on in groups of three, without more digits than there are. */
function grouped(value: number): string {
  const [whole, part] = String(value).split(".");
  if (whole.length < 5 || value < 0) return String(value);
  const groups = whole.replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return part === undefined ? groups : `${groups}.${part}`;
}

export interface Column {
  readonly heading: string;
  /** Figures stand to the right, words to the left. */
  readonly holds: "words" | "figures";
}

export function words(heading: string): Column {
  return { heading, holds: "words" };
}

export function figures(heading: string): Column {
  return { heading, holds: "figures" };
}

export function table(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [
    line(columns.map(({ heading }) => heading)),
    line(columns.map(({ holds }) => (holds === "words" ? ":--" : "--:"))),
    ...rows.map(line),
  ].join("\n");
}
