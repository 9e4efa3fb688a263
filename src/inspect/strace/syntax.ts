/**
 * One line of strace's output taken apart: who, when, and a call, a part of one, or something else. Also the lines by
 * which a debugger or bpftrace adds what a pointer leads to (docs/strace.md). Pure, and must not know any call's meaning.
 * The forms are those of strace(1), Trace output format, and of its source up to 7.2.
 */

export interface TraceLine {
  /** Undefined where strace writes none: without -f, or while one process is left. */
  readonly pid: number | undefined;
  readonly time: TraceTime | undefined;
  readonly body: LineBody;
}

/** `since`: -r, since the call before; `of-day`: -t and -tt, which know no date. */
export interface TraceTime {
  readonly kind: "epoch" | "of-day" | "since";
  readonly ns: bigint;
}

export type LineBody =
  /** `text` is the call as a whole; call.ts takes it apart. */
  | { readonly kind: "call"; readonly text: string }
  /** Up to `<unfinished ...>`. */
  | { readonly kind: "unfinished"; readonly name: string; readonly text: string }
  /** What follows `<... NAME resumed>`. */
  | { readonly kind: "resumed"; readonly name: string; readonly text: string }
  | { readonly kind: "gone" }
  /** `strace: Process N attached`. */
  | { readonly kind: "attached"; readonly pid: number }
  /** Bytes at an address, as gdb's `x` prints them. */
  | { readonly kind: "memory"; readonly address: bigint; readonly bytes: Uint8Array }
  /** What a pointer leads to; without an address: the last call's. */
  | { readonly kind: "value"; readonly address: bigint | undefined; readonly text: string }
  /** Signals, blank lines, strace's own remarks. */
  | { readonly kind: "nothing" }
  /** Looks like a call, and is none: cut or mixed with another line. */
  | { readonly kind: "damaged" }
  /** Somebody else's output. */
  | { readonly kind: "foreign" };

const HEAD = /^(?:\[pid\s+(\d+)(?:<[^>]*>)?\]\s+|(\d+)(?:<[^>]*>)?\s+(?=\S))?/;
const TIME = /^(?:(\d{2}):(\d{2}):(\d{2})(?:\.(\d{1,9}))?|(\d+)\.(\d{1,9}))(?:\s+\(\+\s+[\d.]+\))?\s+(?=\S)/;
const UNFINISHED = /\s*<(?:unfinished|detached) \.\.\.>\s*$/;
const CALL = /^([a-z_][a-z0-9_]*)\(/;
const RESUMED = /^<\.\.\. ([a-z_][a-z0-9_]*) resumed>/;
const MEMORY = /^(0x[0-9a-f]+)(?:\s*<[^>]*>)?:((?:\s+0x[0-9a-f]+)+)\s*$/;
const VALUE = /^(?:\$\d+|(0x[0-9a-f]+)) =>? ?(\S.*)$/;
/** What is left of a call whose line was cut or mixed with another. */
const REMNANT = /\b(?:ioctl|openat|read|write)\(| resumed>|<unfinished /;
/** From here on a time is one since 1970; -r counts from the call before. */
const LEAST_EPOCH_S = 100_000_000n;

export function parseLine(text: string): TraceLine {
  const line = text.trimStart();
  const [whole, bracketed, bare] = HEAD.exec(line) ?? [""];
  const pid = bracketed ?? bare;
  let rest = line.slice(whole.length);
  const time = TIME.exec(rest);
  if (time !== null) rest = rest.slice(time[0].length);
  return {
    pid: pid === undefined ? undefined : Number(pid),
    time: time === null ? undefined : timeOf(time),
    body: bodyOf(rest.trimEnd()),
  };
}

function timeOf([, hours, minutes, seconds, fraction, whole, part]: RegExpExecArray): TraceTime {
  if (whole !== undefined) {
    const ns = BigInt(whole) * SECOND_NS + nanoseconds(part);
    return { kind: BigInt(whole) >= LEAST_EPOCH_S ? "epoch" : "since", ns };
  }
  const ofDay = (Number(hours) * 60 + Number(minutes)) * 60 + Number(seconds);
  return { kind: "of-day", ns: BigInt(ofDay) * SECOND_NS + nanoseconds(fraction) };
}

const SECOND_NS = 1_000_000_000n;

function nanoseconds(fraction = ""): bigint {
  return BigInt(fraction.padEnd(9, "0"));
}

/** A number of seconds as strace writes it, in nanoseconds. */
export function secondsToNs(text: string): bigint {
  const [whole = "0", fraction] = text.split(".");
  return BigInt(whole) * SECOND_NS + nanoseconds(fraction);
}

function bodyOf(text: string): LineBody {
  if (text === "" || text.startsWith("--- ")) return { kind: "nothing" };
  if (text.startsWith("+++ ")) return text.includes("superseded") ? { kind: "nothing" } : { kind: "gone" };
  const attached = /^(?:strace: )?Process (\d+) attached/.exec(text)?.[1];
  if (attached !== undefined) return { kind: "attached", pid: Number(attached) };
  if (text.startsWith("strace: ") || /^Process \d+ /.test(text)) return { kind: "nothing" };
  const resumed = RESUMED.exec(text);
  if (resumed !== null)
    return { kind: "resumed", name: resumed[1] ?? "", text: text.slice(resumed[0].length) };
  const name = CALL.exec(text)?.[1];
  if (name !== undefined) {
    if (UNFINISHED.test(text)) return { kind: "unfinished", name, text: text.replace(UNFINISHED, "") };
    return { kind: "call", text };
  }
  return addedBy(text) ?? { kind: REMNANT.test(text) ? "damaged" : "foreign" };
}

/** What somebody else than strace has put between its lines. */
function addedBy(text: string): LineBody | undefined {
  const [, start, words] = MEMORY.exec(text) ?? [];
  if (start !== undefined && words !== undefined) {
    const bytes = words.trim().split(/\s+/).map(littleEndian);
    if (bytes.every((each) => each !== undefined))
      return { kind: "memory", address: BigInt(start), bytes: Uint8Array.from(bytes.flat()) };
  }
  const value = VALUE.exec(text);
  if (value === null) return undefined;
  const [, address, added = ""] = value;
  return { kind: "value", address: address === undefined ? undefined : BigInt(address), text: added };
}

/** gdb pads each unit to its width, so the digits say how many bytes there are. */
function littleEndian(word: string): number[] | undefined {
  const digits = word.slice(2);
  if (![2, 4, 8, 16].includes(digits.length)) return undefined;
  return (digits.match(/../g) ?? []).map((pair) => Number.parseInt(pair, 16)).reverse();
}
