/**
 * A whole call of a trace taken apart: name, arguments, result; and the few kinds of arguments that are read: strings of
 * bytes, descriptors, numbers. Pure, and must not know any call's meaning.
 */
import { secondsToNs } from "./syntax.js";

export interface TracedCall {
  readonly name: string;
  readonly args: readonly string[];
  readonly result: CallResult;
}

export interface CallResult {
  /** Undefined for `?`: it never came back, or nobody knows. */
  readonly value: bigint | undefined;
  /** `EFAULT`; undefined for a success. */
  readonly errno: string | undefined;
  /** As it stands there, without the time that it took. */
  readonly text: string;
  /** Behind a descriptor, with -y. */
  readonly path: string | undefined;
  /** With -T. */
  readonly tookNs: bigint | undefined;
}

const RESULT =
  /^\s*=\s+(\?|-?\d+|0x[0-9a-f]+)(<.*?>)?(?:\s+(E[A-Z0-9]+))?(?=\s|$)(.*?)(?:\s*<(\d+\.\d+)>)?$/s;

/** Undefined if the text is no whole call. */
export function parseCall(text: string): TracedCall | undefined {
  const open = text.indexOf("(");
  const split = splitArguments(text, open + 1);
  if (open < 1 || split === undefined) return undefined;
  const result = parseResult(text.slice(split.end + 1));
  return result && { name: text.slice(0, open), args: split.args, result };
}

function parseResult(text: string): CallResult | undefined {
  const [, number, path, errno, remark = "", took] = RESULT.exec(text) ?? [];
  if (number === undefined) return undefined;
  const value = number === "?" ? undefined : BigInt(number);
  // A debugger shows what the kernel returned: the error's number, negative.
  const named =
    errno ?? (value !== undefined && value < -1n && value > -4096n ? errnoName(-value) : undefined);
  return {
    value,
    errno: value === undefined ? undefined : named,
    text: [number, named, remark.trim()].filter((word) => word !== undefined && word !== "").join(" "),
    path: path === undefined ? undefined : pathIn(path.slice(1, -1)),
    tookNs: took === undefined ? undefined : secondsToNs(took),
  };
}

/** Those that vhost answers with (Linux asm-generic/errno-base.h, errno.h). */
const ERRNO_NAMES: Readonly<Record<string, string>> = {
  1: "EPERM",
  6: "ENXIO",
  7: "E2BIG",
  9: "EBADF",
  11: "EAGAIN",
  12: "ENOMEM",
  14: "EFAULT",
  16: "EBUSY",
  19: "ENODEV",
  22: "EINVAL",
  25: "ENOTTY",
  95: "EOPNOTSUPP",
  98: "EADDRINUSE",
  105: "ENOBUFS",
};

function errnoName(number: bigint): string {
  return ERRNO_NAMES[String(number)] ?? `errno ${number}`;
}

const CLOSING: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/** Arguments between top-level commas, and where the closing parenthesis is; undefined if there is none. */
function splitArguments(text: string, from: number): { args: string[]; end: number } | undefined {
  const args: string[] = [];
  const open: string[] = [];
  let start = from;
  for (let at = from; at < text.length; at++) {
    const char = text.charAt(at);
    if (char === '"' || char === "<" || text.startsWith("/*", at)) at = skip(text, at);
    else if (char === open.at(-1)) open.pop();
    else if (CLOSING[char] !== undefined) open.push(CLOSING[char]);
    else if (open.length > 0) continue;
    else if (char === ",") {
      args.push(text.slice(start, at).trim());
      start = at + 1;
    } else if (char === ")") {
      const last = text.slice(start, at).trim();
      if (last !== "" || args.length > 0) args.push(last);
      return { args, end: at };
    }
  }
  return undefined;
}

/** The last position of a string, a comment, or a descriptor's path; the same position if it does not end. */
function skip(text: string, at: number): number {
  const form =
    text[at] === '"' ? /"(?:\\.|[^"\\])*"/sy : text[at] === "<" ? /<.*?>(?=[\s,)\]}]|$)/sy : /\/\*.*?\*\//sy;
  // `1<<VIRTIO_F_VERSION_1` opens nothing.
  if (text[at] === "<" && (text[at + 1] === "<" || text[at - 1] === "<")) return at;
  form.lastIndex = at;
  return at + Math.max(1, form.exec(text)?.[0].length ?? 1) - 1;
}

const ESCAPES: Readonly<Record<string, number>> = {
  n: 10,
  t: 9,
  r: 13,
  v: 11,
  f: 12,
  a: 7,
  b: 8,
  '"': 34,
  "\\": 92,
};

/** Bytes of a quoted string (a character a byte) in any of strace's notations; `isCut` if `...` follows it. */
export function bytesIn(text: string): { readonly bytes: Uint8Array; readonly isCut: boolean } | undefined {
  const [, quoted, dots] = /^"((?:\\.|[^"\\])*)"(\.\.\.)?$/s.exec(text) ?? [];
  return quoted === undefined ? undefined : { bytes: unescaped(quoted), isCut: dots !== undefined };
}

function unescaped(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const [, hexadecimal, octal, letter, plain] of text.matchAll(
    /\\x([0-9a-fA-F]{2})|\\([0-7]{1,3})|\\(.)|([^\\])/gsu,
  )) {
    if (hexadecimal !== undefined) bytes.push(Number.parseInt(hexadecimal, 16));
    else if (octal !== undefined) bytes.push(Number.parseInt(octal, 8) & 0xff);
    else if (letter !== undefined) bytes.push(ESCAPES[letter] ?? letter.charCodeAt(0));
    else if (plain !== undefined) bytes.push(plain.charCodeAt(0) & 0xff);
  }
  return Uint8Array.from(bytes);
}

/** A path as -y writes it behind a descriptor, without the device numbers of -yy. */
function pathIn(text: string): string {
  return Buffer.from(unescaped(text.replace(/<(?:char|block) \d+:\d+>$/, ""))).toString();
}

/** `3`, and with -y `3</dev/vhost-vsock>`; undefined for AT_FDCWD and the like. */
export function descriptorIn(
  text = "",
): { readonly fd: number; readonly path: string | undefined } | undefined {
  const [, number, path] = /^(-?\d+)(?:<(.*)>)?$/s.exec(text) ?? [];
  return number === undefined
    ? undefined
    : { fd: Number(number), path: path === undefined ? undefined : pathIn(path) };
}
