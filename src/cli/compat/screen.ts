/**
 * The terminal that a matrix is shown on: how wide it is, whether it has colours, how progress is told. Must not know
 * what is shown.
 */
import { isatty } from "node:tty";
import type { Paint, Tone } from "../../compat/table.js";
import type { LineOutput } from "../../log/output.js";

export interface Screen {
  readonly width: number;
  readonly paint: Paint;
  readonly progress: Progress;
}

/** Told of each cell that is done. */
export interface Progress {
  tell(done: number, total: number): void;
  /** Leaves the line empty for what comes next. */
  end(): void;
}

/** For a file or a pager, and the least that a table is made for. */
const DEFAULT_WIDTH = 100;
const LEAST_WIDTH = 60;

export function processScreen(complain: LineOutput, env = process.env): Screen {
  const isTerminal = isatty(1);
  return {
    width: widthFrom(isTerminal ? process.stdout.columns : undefined, env),
    paint: isTerminal && hasColours(env) ? ansi : plain,
    progress: isatty(2) ? redrawn((text) => process.stderr.write(text)) : few(complain),
  };
}

export function widthFrom(columns: number | undefined, env: NodeJS.ProcessEnv): number {
  // Shells set COLUMNS without exporting it; who exports it means it.
  const wanted = columns ?? Number(env.COLUMNS);
  return Number.isInteger(wanted) && wanted > 0 ? Math.max(wanted, LEAST_WIDTH) : DEFAULT_WIDTH;
}

/** https://no-color.org: set and not empty. */
export function hasColours(env: NodeJS.ProcessEnv): boolean {
  return (env.NO_COLOR ?? "") === "" && env.TERM !== "dumb";
}

export const plain: Paint = (_, text) => text;

/** SGR parameters: green is good, then from grey over yellow and red to magenta. */
const CODES: Readonly<Record<Tone, string>> = {
  works: "32",
  refused: "36",
  "fails-to-start": "33",
  stalls: "33",
  crashes: "31",
  faults: "31",
  corrupts: "1;31",
  exposes: "1;35",
  heading: "1",
  faint: "2",
};

export const ansi: Paint = (tone, text) => `\u001b[${CODES[tone]}m${text}\u001b[0m`;

/** One line, drawn again and again, not more often than it changes. */
export function redrawn(write: (text: string) => unknown): Progress {
  let shown = "";
  return {
    tell(done, total) {
      const text = `running: ${done} of ${total} combinations (${Math.floor((100 * done) / total)} %)`;
      // A redraw for each percent is smooth enough, and cheap on a slow line.
      const percent = text.slice(text.indexOf("("));
      if (percent === shown && done < total) return;
      shown = percent;
      write(`\r\u001b[K${text}`);
    },
    end: () => write("\r\u001b[K"),
  };
}

/** Below this nobody waits. */
const WORTH_TELLING = 200;

/** A line for each quarter of a long run. */
export function few(complain: LineOutput): Progress {
  let quarters = 0;
  return {
    tell(done, total) {
      const reached = Math.floor((4 * done) / total);
      if (total < WORTH_TELLING || reached === quarters) return;
      quarters = reached;
      complain(`bit33: ${done} of ${total} combinations have run`);
    },
    end: () => {},
  };
}
