/** What kind of file a passed descriptor is, from the outside: nothing is read from it or changed. */
import { fstatSync, readlinkSync } from "node:fs";
import type { DescriptorKind } from "../frame.js";

/** `st_mode` (stat(2)): the bits of the file's type. Anonymous inodes have none. */
const TYPE_MASK = 0o170000;
const KINDS: ReadonlyMap<number, DescriptorKind> = new Map([
  [0o140000, "socket"],
  [0o100000, "memory"],
  [0o010000, "pipe"],
]);

export function descriptorKind(fd: number): DescriptorKind {
  const type = fstatSync(fd).mode & TYPE_MASK;
  if (type !== 0) return KINDS.get(type) ?? "other";
  try {
    return readlinkSync(`/proc/self/fd/${fd}`).startsWith("anon_inode:[eventfd") ? "eventfd" : "other";
  } catch {
    return "other";
  }
}
