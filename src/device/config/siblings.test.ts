/** Which VMs share a thread, and which cannot come to. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { groupsOf, households, type Isolation } from "./siblings.js";

const vm = (guestCid: number, ...groups: string[]) => ({ guestCid, groups });
type Vm = ReturnType<typeof vm>;

const cids = (served: Vm[][], vms: Vm[], isolate: Isolation = "thread") =>
  households(served, vms, isolate).map(({ joins, vms }) => ({
    joins,
    cids: vms.map((each) => each.guestCid),
  }));

describe("households of VMs", () => {
  it("are made by groups in common, also through a third VM", () => {
    const vms = [vm(3, "a"), vm(4, "b"), vm(5, "c"), vm(6, "c", "a"), vm(7, "d", "d")];
    assert.deepEqual(cids([], vms), [
      { joins: undefined, cids: [4] },
      { joins: undefined, cids: [3, 5, 6] },
      { joins: undefined, cids: [7] },
    ]);
  });

  it("are one for all VMs in the default group, but not where each is to have a process", () => {
    const vms = [vm(3, "default"), vm(4, "default"), vm(5, "default", "a")];
    assert.deepEqual(cids([], vms), [{ joins: undefined, cids: [3, 4, 5] }]);
    assert.deepEqual(cids([], [...vms, vm(6, "a")], "process"), [
      { joins: undefined, cids: [3] },
      { joins: undefined, cids: [4] },
      { joins: undefined, cids: [5, 6] },
    ]);
    assert.deepEqual(groupsOf(vm(5, "default", "a"), "process"), ["a"]);
    assert.deepEqual(groupsOf(vm(5, "default", "a"), "thread"), ["default", "a"]);
  });

  it("that are served take a sibling in, and leave others alone", () => {
    const served = [[vm(3, "a"), vm(4, "a")], [vm(5, "b")]];
    assert.deepEqual(cids(served, [vm(6, "b", "c")]), [{ joins: 1, cids: [6] }]);
    assert.deepEqual(cids(served, [vm(6, "c"), vm(7, "d")]), [
      { joins: undefined, cids: [6] },
      { joins: undefined, cids: [7] },
    ]);
  });

  it("that are served cannot become one, and none in a process takes another in", () => {
    const served = [[vm(3, "a"), vm(9, "z")], [vm(5, "b")]];
    assert.throws(() => cids(served, [vm(6, "a", "b")]), {
      code: "siblings-apart",
      where: "add (groups)",
      message: /VM 6 would be a sibling of 3, 5 \(a\+b\), and these run in threads of their own/,
    });
    assert.throws(() => cids(served, [vm(6, "b")], "process"), {
      code: "siblings-apart",
      message: /VM 6 would be a sibling of 5 \(b\), and siblings share a process/,
    });
  });
});
