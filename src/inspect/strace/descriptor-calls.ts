/**
 * What a call does to the descriptors of its process: opens, duplicates, closes some, or makes a process that has them too.
 * Pure. Flags come by name, and with strace -X raw by number (Linux fcntl.h and sched.h, on x86 and arm64).
 */
import { bytesIn, descriptorIn, type TracedCall } from "./call.js";

export type DescriptorChange =
  | { readonly kind: "opened"; readonly fd: number; readonly path: string; readonly closesOnExec: boolean }
  /** `from` as the call names it. */
  | {
      readonly kind: "duplicated";
      readonly from: string;
      readonly fd: number;
      readonly closesOnExec: boolean;
    }
  /** Both ends belong to it. */
  | { readonly kind: "closed"; readonly first: number; readonly last: number }
  | { readonly kind: "executed" };

const O_CLOEXEC = 0x80000n;
const F_DUPFD_CLOEXEC = 0x406n;
const CLONE_FILES = 0x400n;
/** F_DUPFD and F_DUPFD_CLOEXEC. */
const DUPLICATING = /^(?:F_DUPFD|0$|0x406$|1030$)/;

/** What a call did; undefined if it failed, or does no such thing. */
export function descriptorChange({ name, args, result }: TracedCall): DescriptorChange | undefined {
  if (result.errno !== undefined || result.value === undefined) return undefined;
  const fd = Number(result.value);
  const [first = "", second = "", third = ""] = args;
  switch (name) {
    case "open":
    case "openat":
    case "openat2": {
      const path =
        result.path ?? Buffer.from(bytesIn(name === "open" ? first : second)?.bytes ?? []).toString();
      return { kind: "opened", fd, path, closesOnExec: closesOnExec(args) };
    }
    case "close": {
      const closed = descriptorIn(first)?.fd ?? -1;
      return { kind: "closed", first: closed, last: closed };
    }
    case "close_range":
      return third.includes("CLOEXEC")
        ? undefined
        : { kind: "closed", first: Number(first), last: Number(second) };
    case "dup":
    case "dup2":
    case "dup3":
      return { kind: "duplicated", from: first, fd, closesOnExec: closesOnExec(args) };
    case "fcntl":
    case "fcntl64":
      if (!DUPLICATING.test(second)) return undefined;
      return { kind: "duplicated", from: first, fd, closesOnExec: closesOnExec(args) };
    case "execve":
      return { kind: "executed" };
    default:
      return undefined;
  }
}

function closesOnExec(args: readonly string[]): boolean {
  return args.some((each) => {
    const flags = /^0x[0-9a-f]+$/.test(each) ? BigInt(each) : 0n;
    return each.includes("CLOEXEC") || (flags & O_CLOEXEC) !== 0n || flags === F_DUPFD_CLOEXEC;
  });
}

export function isClone(name: string): boolean {
  return name === "clone" || name === "clone3" || name === "fork" || name === "vfork";
}

/** Whether the child's descriptors are its parent's, as those of threads are; the flags are in a call's first half already. */
export function sharesFiles(text: string): boolean {
  const flags = /\bflags=(0x[0-9a-f]+)/.exec(text)?.[1];
  return text.includes("CLONE_FILES") || (flags !== undefined && (BigInt(flags) & CLONE_FILES) !== 0n);
}
