/**
 * What of the program an input ran: V8's own block coverage, asked for in this process through node:inspector. Nothing
 * is instrumented, so sources stay as the compiler wrote them. Must not know fuzzing.
 */
import { type Profiler, Session } from "node:inspector";

/** How often a place ran, in classes: more often is news only where it is many times as often. */
function classOf(count: number): number {
  if (count <= 3) return 1 << count;
  return count < 8 ? 16 : count < 32 ? 32 : count < 128 ? 64 : 128;
}
/** Bit 0 of a place: it ran at all. */
const RAN = 1;

/** The places that were ever run, each function by itself, since V8 leaves out functions that did not run. */
export class Coverage {
  readonly #session = new Session();
  /** By function: for each character of its source, the classes seen. */
  readonly #seen = new Map<string, Uint8Array>();
  #scratch = new Uint8Array(4096);
  /** Characters of source that ran so far: a figure to watch. */
  places = 0;

  /** `isOurs` says of a script's URL whether it counts. */
  constructor(private readonly isOurs: (url: string) => boolean) {
    this.#session.connect();
    this.#session.post("Profiler.enable");
    this.#session.post("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
    this.#take();
  }

  /** Forgets what ran since the last look. */
  discard(): void {
    this.#take();
  }

  /** Looks at what one input ran since the last look, and remembers it. "often": known places, but more often. */
  news(): "none" | "often" | "place" {
    const before = this.places;
    let isNew = false;
    for (const { scriptId, ranges } of this.#functions())
      isNew = this.#compare(scriptId, ranges, true) || isNew;
    return this.places > before ? "place" : isNew ? "often" : "none";
  }

  /**
   * Whether anything ran since the last look, by several inputs, that never ran before. Remembers nothing, and does not
   * mind how often it ran, which is one input's matter.
   */
  wouldBeNews(): boolean {
    let isNew = false;
    for (const { scriptId, ranges } of this.#functions())
      isNew = this.#compare(scriptId, ranges, false) || isNew;
    return isNew;
  }

  *#functions(): Generator<{ scriptId: string; ranges: readonly Profiler.CoverageRange[] }> {
    for (const { url, scriptId, functions } of this.#take())
      if (this.isOurs(url)) for (const { ranges } of functions) yield { scriptId, ranges };
  }

  /** Ranges are nested, the outer ones first: what an inner one says holds there. */
  #compare(scriptId: string, ranges: readonly Profiler.CoverageRange[], ofOneInput: boolean): boolean {
    const { startOffset, endOffset } = ranges[0];
    const length = endOffset - startOffset;
    const key = `${scriptId}:${startOffset}:${endOffset}`;
    let seen = this.#seen.get(key);
    if (seen === undefined) {
      seen = new Uint8Array(length);
      this.#seen.set(key, seen);
    }
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(2 * length);
    const now = this.#scratch;
    for (const range of ranges) {
      const bits = range.count === 0 ? 0 : ofOneInput ? RAN | classOf(range.count) : RAN;
      now.fill(bits, range.startOffset - startOffset, range.endOffset - startOffset);
    }
    let isNew = false;
    for (let at = 0; at < length; at++) {
      if ((now[at] & ~seen[at]) === 0) continue;
      if (!ofOneInput) return true;
      if (seen[at] === 0) this.places++;
      seen[at] |= now[at];
      isNew = true;
    }
    return isNew;
  }

  #take(): Profiler.ScriptCoverage[] {
    let taken: Profiler.ScriptCoverage[] = [];
    // On the thread's own session the answer comes before `post` returns.
    this.#session.post("Profiler.takePreciseCoverage", (error, answer) => {
      if (error !== null) throw error;
      taken = answer.result;
    });
    return taken;
  }

  close(): void {
    this.#session.disconnect();
  }
}
