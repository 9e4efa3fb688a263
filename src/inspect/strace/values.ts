/**
 * What the argument of a vhost request leads to, as payload of a message: from a value written in strace's or gdb's way
 * (`[0x300000000]`, `{index=0, num=8}`), or from the bytes at the pointer. Pure. A bare pointer has no value: that is the
 * usual case, and not an error.
 */
import { KERNEL_REGION, type KernelArgument } from "../../vhost/kernel/ioctls.js";
import type { MemRegion, Payload } from "../../vhost/wire/index.js";
import { U64, VRING_ADDR, VRING_STATE } from "../../vhost/wire/layouts.js";
import { decodeStruct, viewOf } from "../../virtio/index.js";
import { bytesIn } from "./call.js";

/** An argument as it was written. */
export interface SeenArgument {
  readonly pointer: bigint | undefined;
  /** What somebody says that it leads to, not understood yet. */
  readonly text: string | undefined;
}

/** Numbers, bytes, and structures of them. */
type Value = bigint | Uint8Array | readonly Value[] | { readonly [field: string]: Value };

const POINTER = /^(0x[0-9a-f]+|\d+|NULL)(?:\s*\/\*\s*(.*?)\s*\*\/|\s*=>?\s*(.*))?$/s;

/** `0x7ffd…`, `0x7ffd… /* [0x3] *\/`, `0x7ffd… => [0x3]`, `[0x3]`. */
export function argumentIn(text: string): SeenArgument {
  const [whole, number, comment, value] = POINTER.exec(text) ?? [];
  if (whole === undefined) return { pointer: undefined, text };
  return { pointer: number === "NULL" ? 0n : BigInt(number ?? 0), text: comment ?? value };
}

/** The payload that a value is for a request, or undefined if it cannot be one. */
export function payloadFromText(argument: KernelArgument, text: string): Payload | undefined {
  const value = new ValueReader(text).whole();
  if (value === undefined) return undefined;
  return value instanceof Uint8Array ? payloadFromBytes(argument, value) : payloadFromValue(argument, value);
}

/** The same from the bytes that the pointer leads to; there may be more than belong to it. */
export function payloadFromBytes(argument: KernelArgument, bytes: Uint8Array): Payload | undefined {
  const view = viewOf(bytes);
  const has = (count: number): boolean => bytes.byteLength >= count;
  // Traces come from little-endian machines; vhost's structures are in the machine's own order.
  switch (argument) {
    case "word":
      return has(8) ? { kind: "u64", ...decodeStruct(U64, view, 0, true) } : undefined;
    case "int":
      return has(4) ? { kind: "u64", value: BigInt(view.getUint32(0, true)) } : undefined;
    case "vringState":
      return has(8) ? { kind: "vringState", ...decodeStruct(VRING_STATE, view, 0, true) } : undefined;
    case "vringAddr":
      return has(40) ? { kind: "vringAddr", ...decodeStruct(VRING_ADDR, view, 0, true) } : undefined;
    case "vringFile":
      return has(8) ? file(view.getUint32(0, true), BigInt(view.getInt32(4, true))) : undefined;
    case "memory": {
      const count = has(8) ? view.getUint32(0, true) : 0;
      if (!has(8 + count * KERNEL_REGION.byteLength)) return undefined;
      const regions = Array.from({ length: count }, (_, at) =>
        decodeStruct(KERNEL_REGION, view, 8 + at * KERNEL_REGION.byteLength, true),
      );
      return table(regions);
    }
    case "none":
    case "other":
      return undefined;
  }
}

function payloadFromValue(argument: KernelArgument, given: Value): Payload | undefined {
  const value = Array.isArray(given) && given.length === 1 ? given[0] : given;
  switch (argument) {
    case "word":
    case "int":
      return typeof value === "bigint" ? { kind: "u64", value: BigInt.asUintN(64, value) } : undefined;
    case "vringState": {
      const [index, num] = fields(value, "index", "num");
      return num === undefined ? undefined : { kind: "vringState", index: Number(index), num: Number(num) };
    }
    case "vringAddr": {
      const names = ["index", "desc_user_addr", "used_user_addr", "avail_user_addr"] as const;
      const [index, desc = 0n, used = 0n, avail] = fields(value, ...names);
      if (avail === undefined) return undefined;
      const [flags = 0n] = fields(value, "flags");
      const [log = 0n] = fields(value, "log_guest_addr");
      return { kind: "vringAddr", index: Number(index), flags: Number(flags), desc, used, avail, log };
    }
    case "vringFile": {
      const [index, fd] = fields(value, "index", "fd");
      return fd === undefined ? undefined : file(Number(index), BigInt.asIntN(32, fd));
    }
    case "memory":
      return memory(value);
    case "none":
    case "other":
      return undefined;
  }
}

function memory(value: Value | undefined): Payload | undefined {
  const regions = field(value, "regions");
  const [count] = fields(value, "nregions");
  if (!Array.isArray(regions)) return undefined;
  const found: { guestAddress: bigint; size: bigint; userAddress: bigint }[] = [];
  for (const region of regions) {
    const [guestAddress = 0n, size = 0n, userAddress] = fields(
      region,
      "guest_phys_addr",
      "memory_size",
      "userspace_addr",
    );
    if (userAddress === undefined) return undefined;
    found.push({ guestAddress, size, userAddress });
  }
  // strace cuts long lists; gdb shows a flexible array as an empty one.
  return count !== undefined && count !== BigInt(found.length) ? undefined : table(found);
}

function table(regions: readonly Omit<MemRegion, "mmapOffset">[]): Payload {
  return { kind: "memTable", regions: regions.map((region) => ({ ...region, mmapOffset: 0n })) };
}

function file(index: number, fd: bigint): Payload {
  return { kind: "vringFd", index, noFd: fd < 0n };
}

function field(value: Value | undefined, name: string): Value | undefined {
  if (typeof value !== "object" || value instanceof Uint8Array || Array.isArray(value)) return undefined;
  return (value as { readonly [field: string]: Value })[name];
}

/** The numbers of some fields; nothing at all if one of them is missing. */
function fields(value: Value | undefined, ...names: readonly string[]): bigint[] {
  const numbers = names.map((name) => field(value, name)).filter((each) => typeof each === "bigint");
  return numbers.length === names.length ? numbers : [];
}

/** Reads one value; gives up at what it does not know. */
class ValueReader {
  #at = 0;

  constructor(readonly text: string) {}

  whole(): Value | undefined {
    const value = this.#value();
    return this.#take(/$/y) === undefined ? undefined : value;
  }

  #take(form: RegExp): string | undefined {
    const blank = /\s*/y;
    blank.lastIndex = this.#at;
    form.lastIndex = this.#at + (blank.exec(this.text)?.[0].length ?? 0);
    const found = form.exec(this.text)?.[0];
    if (found !== undefined) this.#at = form.lastIndex;
    return found;
  }

  #value(): Value | undefined {
    const value = this.#single();
    // In, then out: `[0] => [0x3]`.
    return value !== undefined && this.#take(/=>/y) !== undefined ? this.#value() : value;
  }

  #single(): Value | undefined {
    if (this.#take(/\[/y) !== undefined) return this.#list();
    if (this.#take(/\{/y) !== undefined) return this.#structure();
    const quoted = this.#take(/"(?:\\.|[^"\\])*"/y);
    if (quoted !== undefined) return bytesIn(quoted)?.bytes;
    const number = this.#take(/-?(?:0x[0-9a-fA-F]+|\d+)/y);
    if (number === undefined) return undefined;
    this.#take(/<[^<>]*>|\/\*.*?\*\//y);
    return number.startsWith("-") ? -BigInt(number.slice(1)) : BigInt(number);
  }

  #list(): Value | undefined {
    const values: Value[] = [];
    while (this.#take(/\]/y) === undefined) {
      const value = this.#value();
      if (value === undefined) return undefined;
      values.push(value);
      this.#take(/,/y);
    }
    return values;
  }

  /** gdb writes an array in braces as well. */
  #structure(): Value | undefined {
    const values: Value[] = [];
    const named: Record<string, Value> = {};
    while (this.#take(/\}/y) === undefined) {
      const name = this.#take(/[a-z_][a-z0-9_]*(?=\s*=)/y);
      if (name !== undefined) this.#take(/=/y);
      const value = this.#value();
      if (value === undefined) return undefined;
      if (name === undefined) values.push(value);
      else named[name] = value;
      this.#take(/,/y);
    }
    return values.length > 0 ? values : named;
  }
}
