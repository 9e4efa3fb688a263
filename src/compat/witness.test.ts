import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { IoPageTable } from "../guest/io-page-table.js";
import { Access, Outcome } from "../memory/address.js";
import type { WatchedAccess } from "../memory/watched-space.js";
import { type Confinement, type Finding, Witness } from "./witness.js";

const GPA = 0x10_0000;

function access(more: Partial<WatchedAccess> = {}): WatchedAccess {
  const bytes = more.bytes ?? 64;
  return {
    use: "buffer",
    space: "iova",
    address: 0xffff_f000n,
    bytes,
    access: Access.READ,
    leadsTo: [{ gpa: GPA, bytes }],
    ...more,
  };
}

function witnessOf(confinement: Confinement): { witness: Witness; found: Finding["kind"][] } {
  const found: Finding["kind"][] = [];
  return { witness: new Witness(confinement, ({ kind }) => found.push(kind)), found };
}

describe("a witness", () => {
  it("finds nothing wrong where everything may be reached, and tells of the first of each kind only", () => {
    const { witness, found } = witnessOf({ kind: "everything" });
    for (let i = 0; i < 3; i++) assert.equal(witness.accessed(access({ use: "ring" })), undefined);
    assert.equal(witness.accessed(access()), undefined);
    assert.deepEqual(found, ["first-ring", "first-buffer"]);
    assert.equal(witness.count("first-ring"), 3);
  });

  it("denies what lies outside of a shared pool, be it one byte", () => {
    const { witness, found } = witnessOf({ kind: "pool", gpa: GPA, bytes: 4096 });
    assert.equal(witness.accessed(access({ space: "gpa", bytes: 4096 })), undefined);
    assert.match(witness.accessed(access({ space: "gpa", bytes: 4097 })) ?? "", /private memory/);
    const apart = [
      { gpa: GPA, bytes: 32 },
      { gpa: GPA - 4096, bytes: 32 },
    ];
    assert.match(witness.accessed(access({ leadsTo: apart })) ?? "", /hypervisor/);
    assert.deepEqual(found, ["first-buffer", "private"]);
  });

  it("lets a device use a mapping for what it is mapped for, as long as it is", () => {
    const table = new IoPageTable();
    const { witness, found } = witnessOf({ kind: "mappings", table });
    table.map(0xfffff, 1, GPA, Access.READ);
    witness.accessed(access());
    assert.deepEqual(found, ["first-buffer"]);
    witness.accessed(access({ access: Access.WRITE }));
    assert.deepEqual(found, ["first-buffer", "withheld"]);
    table.unmap(0xfffff, 1);
    witness.accessed(access());
    assert.equal(witness.count("withheld"), 2);
    table.map(0xfffff, 1, GPA + 0x5000, Access.READ);
    witness.accessed(access());
    assert.equal(witness.count("stale"), 1, "the address leads elsewhere now");
  });

  it("looks at every page of a range", () => {
    const table = new IoPageTable();
    const { witness } = witnessOf({ kind: "mappings", table });
    table.map(0xffffd, 1, GPA, Access.READ);
    table.map(0xffffe, 1, GPA + 0x1000, Access.READ);
    const across = { bytes: 4096, leadsTo: [{ gpa: GPA + 0x800, bytes: 4096 }] };
    witness.accessed(access({ ...across, address: 0xffff_d800n }));
    assert.equal(witness.count("first-buffer"), 1);
    table.unmap(0xffffe, 1);
    witness.accessed(access({ ...across, address: 0xffff_d800n }));
    assert.equal(witness.count("withheld"), 1);
  });

  it("judges an untranslated access by whether the page is mapped under any address", () => {
    const table = new IoPageTable();
    const { witness } = witnessOf({ kind: "mappings", table });
    table.map(0x1234, 1, GPA, Access.READ_WRITE);
    witness.accessed(access({ space: "gpa", address: BigInt(GPA) }));
    assert.equal(witness.count("first-buffer"), 1);
    const other = { address: BigInt(GPA + 4096), leadsTo: [{ gpa: GPA + 4096, bytes: 64 }] };
    witness.accessed(access({ space: "gpa", ...other }));
    assert.equal(witness.count("withheld"), 1);
  });

  it("knows the canary, whatever else may be reached", () => {
    const { witness, found } = witnessOf({ kind: "everything" });
    witness.canary = { gpa: GPA, bytes: 4096 };
    assert.equal(witness.accessed(access({ leadsTo: [{ gpa: GPA + 4095, bytes: 1 }] })), undefined);
    witness.accessed(access({ leadsTo: [{ gpa: GPA + 4096, bytes: 1 }] }));
    assert.deepEqual(found, ["canary", "first-buffer"]);
  });

  it("keeps what is asked for until it is resolved, and counts a corrupt length as a few pages", () => {
    const { witness } = witnessOf({ kind: "everything" });
    const asked = { use: "ring", space: "iova", bytes: 64, access: Access.READ } as const;
    witness.withheld({ ...asked, address: 0x1000n }, Outcome.MISS);
    witness.withheld({ ...asked, address: 0x2000n }, Outcome.MISS);
    witness.withheld({ ...asked, address: 0x3000n, bytes: 2 ** 32 }, Outcome.FAULT);
    witness.accessed(access({ address: 0x1000n }));
    assert.deepEqual([...witness.missing.keys()], [2n]);
    witness.withheld({ ...asked, address: 0x2000n, bytes: 2 ** 32 - 1 }, Outcome.MISS);
    assert.ok(witness.missing.size <= 32);
    assert.equal(witness.count("nowhere"), 1);
  });
});
