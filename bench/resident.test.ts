import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { copyMemory, mapAnonymous, unmap } from "../src/linux/mapping.js";
import { anonymousKib, anonymousKibOf, residentKib, residentKibOf } from "./resident.js";

describe("the memory of a process", () => {
  it("is what no file is behind", () => {
    const rollup =
      "55-7f ---p 0 00:00 0 [rollup]\nRss: 1772 kB\nPss_Anon: 9 kB\nAnonymous:      116 kB\nAnonHugePages: 0 kB\n";
    assert.equal(anonymousKibOf(rollup), 116);
    assert.throws(() => anonymousKibOf("Rss: 5 kB\n"), /no Anonymous/);
  });

  it("as ps shows it leaves out shared memory only", () => {
    const status = "VmRSS:\t  70 kB\nRssAnon:\t  10 kB\nRssFile:\t  20 kB\nRssShmem:\t  40 kB\n";
    assert.equal(residentKibOf(status), 30);
  });

  it("grows where memory is touched, and not where it is mapped", () => {
    const [touched, source] = [mapAnonymous(2 ** 24), mapAnonymous(2 ** 24)];
    const before = anonymousKib(process.pid);
    // Reading what was never written touches the kernel's one page of zeros.
    copyMemory(touched, source, 2 ** 24);
    const grown = anonymousKib(process.pid) - before;
    assert.ok(grown >= 2 ** 14 && grown < 2 ** 15, `${grown} KiB`);
    assert.ok(residentKib(process.pid) > 2 ** 14);
    unmap(touched, 2 ** 24);
    unmap(source, 2 ** 24);
  });
});
