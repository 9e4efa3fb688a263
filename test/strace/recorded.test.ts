/**
 * What `bit33 inspect --strace` says of the real strace's recordings beside this file. record.ts makes them anew, in a
 * guest; nothing here needs one.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { inspectCommand } from "../../src/cli/inspect.js";
import { root } from "../vm/paths.js";
import { recordingsFolder } from "./record.js";

interface Shown {
  readonly status: number;
  readonly lines: readonly string[];
  readonly complaints: readonly string[];
}

function fileOf(name: string): string {
  return resolve(recordingsFolder, name.includes(".") ? name : `${name}.strace`);
}

async function inspect(name: string, ...options: readonly string[]): Promise<Shown> {
  const lines: string[] = [];
  const complaints: string[] = [];
  const status = await inspectCommand(["--strace", fileOf(name), ...options], {
    print: (text) => lines.push(...text.split("\n")) > 0,
    complain: (text) => complaints.push(text) > 0,
  });
  return { status, lines, complaints };
}

interface JsonRecord {
  readonly kind: string;
  readonly lint?: string;
  readonly line?: string;
  readonly text?: string;
  readonly translation?: { readonly verdict: string };
  readonly systemCall?: { readonly name: string };
}

async function records(name: string): Promise<readonly JsonRecord[]> {
  const { lines } = await inspect(name, "--json");
  return lines.map((line): JsonRecord => JSON.parse(line));
}

function callsIn(name: string, pattern: RegExp): number {
  return readFileSync(join(recordingsFolder, `${name}.strace`), "utf8").match(pattern)?.length ?? 0;
}

describe("the recorded strace of a VMM that hands bit 33 on and maps nothing, as in August 2022", () => {
  for (const name of ["handing-on", "handing-on-more", "handing-on-raw"]) {
    it(`is diagnosed by name, though no word is shown: ${name}`, async () => {
      const { status, lines } = await inspect(name, "--quiet", "--fail-on", "warning");
      assert.equal(status, 3);
      const finding = lines.find((line) => line.includes(" warning bit33-without-iotlb: ")) ?? "";
      assert.match(
        finding,
        /SET_RUNNING fails with EFAULT, and no IOTLB message came before.*ACCESS_PLATFORM \(33\)/,
      );
      assert.ok(lines.includes("      shown by #32 VHOST_VSOCK_SET_RUNNING = -1 EFAULT (Bad address)"));
      assert.ok(
        lines.some((line) =>
          line.includes("only pointers are shown for VHOST_GET_FEATURES, VHOST_SET_FEATURES"),
        ),
      );
      assert.ok(lines.includes("  memory: not shown") && lines.includes("  rings: not shown"));
    });
  }
});

describe("the recorded strace of a VMM that translates", () => {
  for (const name of ["translating", "translating-more"]) {
    it(`shows every request and every IOTLB message, and nothing to complain of: ${name}`, async () => {
      const all = await records(name);
      const named = all.filter(({ kind }) => kind === "message").map(({ line = "" }) => line);
      const count = (pattern: RegExp): number => named.filter((line) => pattern.test(line)).length;
      assert.equal(count(/^VHOST_.* = /), callsIn(name, /VHOST_[A-Z_]+/g));
      assert.equal(
        count(/^write UPDATE iova=0xfff0[0-5]000 size=0x1000 user=0x10000000[0-5]000 perm=rw$/),
        callsIn(name, /write\(3/g),
      );
      assert.equal(
        count(/^read MISS iova=0xfff0[0-5]000 perm=r$/),
        callsIn(name, /(read\(3[^,]*, |read resumed>)"/g),
      );
      assert.deepEqual(
        all.filter(({ kind }) => kind === "finding").map(({ lint }) => lint),
        [],
      );
      assert.equal(all.at(-1)?.translation?.verdict, "translated");
      assert.ok(all.some(({ systemCall }) => systemCall?.name === "VHOST_SET_FEATURES"));
    });
  }
});

describe("the recorded strace that was not asked for whole buffers", () => {
  it("shows how much of each IOTLB message there is, and says so once and at the end", async () => {
    const { status, lines } = await inspect("translating-cut", "--fail-on", "info");
    assert.equal(status, 0);
    const writes = lines.filter((line) =>
      /write \(only 32 of 72 bytes: iova=0xfff0[0-5]000 size=0x1000\)$/.test(line),
    );
    assert.equal(writes.length, callsIn("translating-cut", /write\(3/g));
    assert.equal(lines.filter((line) => line.includes("use strace -s 128")).length, 2);
    assert.ok(lines.includes("  addresses are translated:"));
    assert.match(lines[0] ?? "", /^session 1 begins at \d\d:\d\d:\d\d\.\d{3}$/);
  });
});

describe("the recorded strace of a device that one process opens and another drives", () => {
  it("is followed where the calls are traced that pass descriptors on", async () => {
    const { lines } = await inspect("forking-more");
    assert.equal(lines.filter((line) => line.startsWith("session ")).length, 2);
    assert.ok(lines.includes("session 1 ended: the front-end closed the device"));
    assert.ok(!lines.some((line) => line.includes("was not seen to be")));
  });

  it("is taken for one where they are not, with a note that says what to trace", async () => {
    const { lines, complaints } = await inspect("forking");
    assert.ok(
      lines.some((line) =>
        /note: line 2: descriptor 4 of process \d+ was not seen .* add close,dup/.test(line),
      ),
    );
    assert.equal(lines.filter((line) => /^session \d+ begins/.test(line)).length, 1);
    assert.deepEqual(complaints, []);
  });
});

describe("what gdb recorded by vhost.gdb", () => {
  it("is read in the place of a trace, with what each pointer leads to", async () => {
    const requests = (await records("gdb.txt"))
      .filter(
        ({ kind, line = "" }) => kind === "message" && !line.includes(" = ") && !line.includes("VRING_ADDR"),
      )
      .map(({ line }) => line);
    assert.deepEqual(requests, [
      "VHOST_SET_OWNER",
      "VHOST_GET_FEATURES",
      "VHOST_SET_FEATURES 0x300000000 [VERSION_1 ACCESS_PLATFORM]",
      "VHOST_SET_MEM_TABLE regions=2; gpa=0x0 size=0xa0000 user=0x100000000000; gpa=0x100000 size=0x40000000 user=0x100000100000",
      "VHOST_VSOCK_SET_GUEST_CID 3",
      "VHOST_SET_VRING_NUM q1 num=256",
      "VHOST_SET_VRING_KICK q1 no-fd",
      "VHOST_VSOCK_SET_RUNNING 1",
    ]);
  });

  it("was recorded by the script that docs/strace.md gives", () => {
    const page = readFileSync(join(root, "docs/strace.md"), "utf8");
    const script = readFileSync(join(root, "test/strace/vhost.gdb"), "utf8");
    assert.ok(page.includes(`\`\`\`\n${script}\`\`\``));
  });
});

describe("a recording that ends anywhere", () => {
  const folder = mkdtempSync(join(tmpdir(), "b33-cut-"));
  after(() => rmSync(folder, { recursive: true }));

  for (const name of ["translating-more", "forking-more", "gdb.txt"]) {
    it(`is shown up to there, with a summary: ${name}`, async () => {
      const whole = readFileSync(fileOf(name));
      const path = join(folder, "cut.strace");
      const complete = await inspect(name, "--json");
      const count = (lines: readonly string[]): number =>
        lines.filter((line) => line.startsWith('{"kind":"message"')).length;
      let before = 0;
      for (let bytes = 1400; bytes <= whole.byteLength; bytes += 211) {
        writeFileSync(path, whole.subarray(0, bytes));
        const { status, lines, complaints } = await inspect(path, "--json");
        assert.equal(status, 0, `${bytes} bytes: ${complaints}`);
        assert.match(lines.at(-1) ?? "", /^\{"kind":"summary"/);
        assert.ok(count(lines) >= before - 1, `${bytes} bytes`);
        before = count(lines);
      }
      assert.ok(before <= count(complete.lines));
    });
  }
});

describe("recordings whose lines and bytes were mixed up", () => {
  const pieces = ["translating-more", "handing-on-raw", "forking-more", "gdb.txt"]
    .flatMap((name) => readFileSync(fileOf(name), "latin1").split("\n"))
    .map((line) => `${line}\n`);
  const piece = fc
    .tuple(fc.constantFrom(...pieces), fc.nat(), fc.option(fc.string({ maxLength: 5 }), { freq: 3 }))
    .map(([line, at, put]) =>
      put === null ? line : line.slice(0, at % line.length) + put + line.slice(at % 200),
    );

  it("give notes and sessions, and never a failure of the program's own", async () => {
    const folder = mkdtempSync(join(tmpdir(), "b33-mixed-"));
    const path = join(folder, "mixed.strace");
    const opening = pieces.find((line) => line.includes("openat(")) ?? "";
    try {
      await fc.assert(
        fc.asyncProperty(fc.array(piece, { maxLength: 60 }), async (lines) => {
          writeFileSync(path, opening + lines.join(""), "latin1");
          const { status, complaints } = await inspect(path, "--json");
          assert.ok(
            status === 0 || /: no call in it uses/.test(complaints.at(-1) ?? ""),
            complaints.join("\n"),
          );
        }),
        { numRuns: 300 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("bit33 inspect --strace", () => {
  it("says of a file that is not there, or is another option's, what to do", async () => {
    const missing = await inspect("nothing");
    assert.equal(missing.status, 2);
    assert.match(
      missing.complaints[0] ?? "",
      /nothing\.strace: the trace cannot be read \(ENOENT\); give a file that strace -o wrote/,
    );
    const both = await inspect("forking", "--capture", "x.pcapng");
    assert.equal(both.status, 2);
    assert.match(both.complaints[0] ?? "", /--capture belongs to a live session/);
    assert.match(
      (await inspect("forking", "x.pcapng")).complaints[0] ?? "",
      /one file is inspected at a time/,
    );
  });
});
