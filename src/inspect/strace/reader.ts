/**
 * A trace as a sequence of events: calls that were cut in two are put together again, times are made absolute, and what
 * stands between the lines for a pointer is handed to its call. Calls that no descriptor depends on are left out. Must not
 * know processes or devices.
 */
import { closeSync, openSync, readSync } from "node:fs";
import { systemReason } from "../capture/error.js";
import { parseCall, type TracedCall } from "./call.js";
import { TraceError } from "./error.js";
import { type LineBody, parseLine, type TraceTime } from "./syntax.js";
import { argumentIn } from "./values.js";

/** What a pointer of a call leads to. */
export interface Added {
  text: string | undefined;
  bytes: Uint8Array | undefined;
}

export interface CallEvent {
  readonly kind: "call";
  /** Of the line that it ends on, from 1 on. */
  readonly line: number;
  readonly pid: number | undefined;
  readonly startNs: bigint;
  readonly endNs: bigint;
  readonly call: TracedCall;
  readonly added: Added;
}

export type TraceEvent =
  | CallEvent
  /** The first half of a call; the whole follows. */
  | { readonly kind: "begun"; readonly pid: number | undefined; readonly name: string; readonly text: string }
  | { readonly kind: "gone"; readonly pid: number | undefined; readonly endNs: bigint }
  | { readonly kind: "attached"; readonly pid: number }
  /** A line that was to be understood, and is not. */
  | { readonly kind: "damaged"; readonly line: number; readonly problem: string };

/** Calls that open, use, pass on or close descriptors of vhost devices. */
const FOLLOWED: ReadonlySet<string> = new Set(
  "ioctl open openat openat2 read write close close_range dup dup2 dup3 fcntl fcntl64 clone clone3 fork vfork execve".split(
    " ",
  ),
);
/** What is added comes within so many events of its call, where outputs were merged by time. */
const HELD_EVENTS = 64;
const CHUNK_BYTES = 65536;
/** A file without ends of lines is no trace, and is not kept in memory. */
const LONGEST_LINE = 1 << 20;
const DAY_NS = 86_400_000_000_000n;

interface Unfinished {
  readonly line: number;
  readonly name: string;
  readonly text: string;
  readonly startNs: bigint;
  readonly added: Added;
}

export class TraceReader {
  /** Lines that somebody else has written, and the first of them. */
  foreign = 0;
  firstForeign: number | undefined;
  /** Lines of calls, followed or not. */
  calls = 0;
  hasTimes = false;
  /** Calls that were never finished. */
  readonly #unfinished = new Map<number | undefined, Unfinished>();
  #held: TraceEvent[] = [];
  #nowNs = 0n;
  #dayNs = 0n;

  constructor(readonly path: string) {}

  *events(): Generator<TraceEvent> {
    let number = 0;
    for (const line of linesOf(this.path)) {
      number++;
      const { pid, time, body } = parseLine(line);
      if (time !== undefined) this.#pass(time);
      const event = this.#take(number, pid, body);
      if (event !== undefined) this.#held.push(event);
      while (this.#held.length > HELD_EVENTS) yield this.#held.shift() as TraceEvent;
    }
    yield* this.#held;
    for (const [pid, unfinished] of this.#unfinished) {
      const call = parseCall(`${unfinished.text}) = ?`);
      if (call !== undefined) yield this.#call(unfinished.line, pid, call, unfinished);
    }
  }

  /** Where time was told up to now. */
  get nowNs(): bigint {
    return this.#nowNs;
  }

  #pass({ kind, ns }: TraceTime): void {
    this.hasTimes = true;
    if (kind === "since") this.#nowNs += ns;
    else if (kind === "epoch") this.#nowNs = ns > this.#nowNs ? ns : this.#nowNs;
    else {
      if (this.#dayNs + ns + DAY_NS / 2n < this.#nowNs) this.#dayNs += DAY_NS;
      if (this.#dayNs + ns > this.#nowNs) this.#nowNs = this.#dayNs + ns;
    }
  }

  #take(line: number, pid: number | undefined, body: LineBody): TraceEvent | undefined {
    switch (body.kind) {
      case "nothing":
        return undefined;
      case "foreign":
        this.foreign++;
        this.firstForeign ??= line;
        return undefined;
      case "damaged":
        return { kind: "damaged", line, problem: "this looks like a part of a call, and is none" };
      case "gone":
        return { kind: "gone", pid, endNs: this.#nowNs };
      case "attached":
        return { kind: "attached", pid: body.pid };
      case "memory":
        return this.#add(line, pid, body.address, (added, pointer) =>
          appended(added, pointer, body.address, body.bytes),
        );
      case "value":
        return this.#add(line, pid, body.address, (added, pointer) => {
          if (pointer !== (body.address ?? pointer)) return false;
          added.text = body.text;
          return true;
        });
      case "unfinished":
        this.calls++;
        if (!FOLLOWED.has(body.name)) return undefined;
        this.#unfinished.set(pid, { ...body, line, startNs: this.#nowNs, added: nothingAdded() });
        return { kind: "begun", pid, name: body.name, text: body.text };
      case "resumed":
        return this.#resumed(line, pid, body.name, body.text);
      case "call": {
        this.calls++;
        if (!FOLLOWED.has(body.text.slice(0, body.text.indexOf("(")))) return undefined;
        const call = parseCall(body.text);
        return call === undefined ? cutShort(line) : this.#call(line, pid, call, undefined);
      }
    }
  }

  #resumed(line: number, pid: number | undefined, name: string, text: string): TraceEvent | undefined {
    if (!FOLLOWED.has(name)) return undefined;
    const unfinished = this.#unfinished.get(pid);
    if (unfinished?.name !== name) {
      const problem = `the beginning of this ${name} is not in the trace`;
      return { kind: "damaged", line, problem };
    }
    this.#unfinished.delete(pid);
    const call = parseCall(unfinished.text + text);
    return call === undefined ? cutShort(line) : this.#call(line, pid, call, unfinished);
  }

  #call(
    line: number,
    pid: number | undefined,
    call: TracedCall,
    unfinished: Unfinished | undefined,
  ): CallEvent {
    const startNs = unfinished?.startNs ?? this.#nowNs;
    const tookNs = call.result.tookNs ?? 0n;
    const endNs = unfinished === undefined ? startNs + tookNs : this.#nowNs;
    return { kind: "call", line, pid, startNs, endNs, call, added: unfinished?.added ?? nothingAdded() };
  }

  /** Hands what was added to the last call that takes it. `give` says whether one with that pointer does. */
  #add(
    line: number,
    pid: number | undefined,
    address: bigint | undefined,
    give: (added: Added, pointer: bigint) => boolean,
  ): TraceEvent | undefined {
    for (const event of this.#held.toReversed()) {
      if (event.kind !== "call" || event.call.name !== "ioctl") continue;
      if (pid !== undefined && event.pid !== undefined && event.pid !== pid) continue;
      const { pointer } = argumentIn(event.call.args[2] ?? "");
      if (pointer !== undefined && give(event.added, pointer)) return undefined;
    }
    // A call that is under way: its pointer is shown when it comes back.
    const started = pid === undefined ? undefined : this.#unfinished.get(pid);
    if (started?.name === "ioctl" && address !== undefined && give(started.added, address)) return undefined;
    const problem = "no call before this line has that pointer; what is added has to follow its call";
    return { kind: "damaged", line, problem };
  }
}

function nothingAdded(): Added {
  return { text: undefined, bytes: undefined };
}

function cutShort(line: number): TraceEvent {
  return { kind: "damaged", line, problem: "the call has no end or no result" };
}

/** Adds bytes that begin at the pointer, or go on where the last ones ended. */
function appended(added: Added, pointer: bigint, address: bigint, bytes: Uint8Array): boolean {
  const before = added.bytes ?? new Uint8Array(0);
  if (address !== pointer + BigInt(before.byteLength)) return false;
  added.bytes = Uint8Array.from([...before, ...bytes]);
  return true;
}

/** The lines of a file of any size. Throws a TraceError. */
function* linesOf(path: string): Generator<string> {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    throw unreadable(path, error);
  }
  try {
    const chunk = Buffer.alloc(CHUNK_BYTES);
    // Latin-1 keeps each byte apart, so that a character may be cut in two; what is outside of ASCII is nowhere read.
    let rest = "";
    for (let count = read(path, fd, chunk); count > 0; count = read(path, fd, chunk)) {
      const lines = (rest + chunk.toString("latin1", 0, count)).split("\n");
      rest = lines.pop() ?? "";
      yield* lines;
      if (rest.length > LONGEST_LINE) {
        yield rest;
        rest = "";
      }
    }
    if (rest !== "") yield rest;
  } finally {
    closeSync(fd);
  }
}

function read(path: string, fd: number, chunk: Buffer): number {
  try {
    return readSync(fd, chunk);
  } catch (error) {
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): TraceError {
  const problem = `the trace cannot be read (${systemReason(error)}); give a file that strace -o wrote`;
  return new TraceError("trace-unreadable", path, problem);
}
