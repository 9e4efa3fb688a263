/** What a process holds, as /proc tells: for tests that nothing is left over. */
import { readdirSync, readFileSync } from "node:fs";

export interface Held {
  readonly descriptors: number;
  readonly mappings: number;
  /** Of those, what is shared with others: guests' memory. */
  readonly sharedMappings: number;
  /** Of its own, the pages of files and of shared memory left out. */
  readonly ownKilobytes: number;
  readonly addressSpaceKilobytes: number;
}

export function heldBy(pid: number): Held {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kilobytes = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(status)?.[1]);
  const maps = readFileSync(`/proc/${pid}/maps`, "utf8").trimEnd().split("\n");
  return {
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
    mappings: maps.length,
    sharedMappings: maps.filter((line) => /^\S+ ...s /.test(line)).length,
    ownKilobytes: kilobytes("RssAnon"),
    addressSpaceKilobytes: kilobytes("VmSize"),
  };
}
