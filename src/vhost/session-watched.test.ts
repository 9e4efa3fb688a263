import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccessWatcher, WatchedAccess } from "../memory/watched-space.js";
import { GPA_BASE, IOVA_BASE, VERSION_1_AND_30, WITH_BIT_33, withRig } from "./session-rig.js";

/** Remembers what it is told; denies what `denies` says. */
class Notebook implements AccessWatcher {
  readonly seen: string[] = [];
  readonly missing: string[] = [];
  denies: (access: WatchedAccess) => boolean = () => false;

  accessed(access: WatchedAccess): string | undefined {
    const { use, space, leadsTo } = access;
    this.seen.push(`${use} ${space} ${leadsTo.map(({ gpa }) => `0x${gpa.toString(16)}`).join(" ")}`);
    return this.denies(access) ? "that page is private" : undefined;
  }

  withheld({ use, space, address }: Omit<WatchedAccess, "leadsTo">): void {
    this.missing.push(`${use} ${space} 0x${address.toString(16)}`);
  }
}

const at = (base: bigint, offset: number): string => `0x${(base + BigInt(offset)).toString(16)}`;

test("a watcher hears of rings by their user address and of buffers by their guest-physical one", () => {
  const watcher = new Notebook();
  withRig(
    { iotlb: "off" },
    (rig) => {
      rig.connect();
      rig.start(VERSION_1_AND_30, "user-rings");
      rig.send(1, "hello");
      assert.deepEqual(rig.received(1), ["hello"]);
      assert.ok(watcher.seen.includes(`ring uva ${at(GPA_BASE, rig.ram.offsetOf(0))}`));
      assert.ok(watcher.seen.includes(`buffer gpa ${at(GPA_BASE, 0x100000)}`));
    },
    { watcher },
  );
});

test("what a watcher denies, the device does not get: the ring breaks, and the reason is the watcher's", () => {
  const watcher = new Notebook();
  watcher.denies = ({ use }) => use === "buffer";
  withRig(
    { iotlb: "off" },
    (rig) => {
      rig.connect();
      rig.start(VERSION_1_AND_30, "user-rings");
      rig.send(1, "hello");
      assert.deepEqual(rig.received(1), []);
      assert.match(rig.log("ring-broken")[0].message, /that page is private/);
    },
    { watcher },
  );
});

test("a watcher hears of what the IOTLB lacks, and where the address leads once it is mapped", () => {
  const watcher = new Notebook();
  withRig(
    { iotlb: "on" },
    (rig) => {
      rig.connect();
      rig.start(WITH_BIT_33, "iova");
      rig.send(1, "hello", "iova");
      assert.deepEqual(rig.received(1), ["hello"]);
      assert.ok(watcher.missing.includes(`ring iova ${at(IOVA_BASE, rig.ram.offsetOf(1))}`));
      assert.ok(watcher.seen.includes(`buffer iova ${at(GPA_BASE, 0x100000)}`));
    },
    { watcher },
  );
});
