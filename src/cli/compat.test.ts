/**
 * `bit33 compat` as a command: what it asks the engine for, how it answers and with which status, and each mistake.
 * The engine here is the test's own; test/compat.test.ts runs the real one.
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { CONFIG, cell, inapplicable } from "../compat/cells.fixture.js";
import type { Matrix, RunOptions } from "../compat/matrix.js";
import type { Cell, Verdict } from "../compat/record.js";
import { builtinText } from "../profiles/builtin.js";
import { plain } from "./compat/screen.js";
import { compatCommand } from "./compat.js";
import { TERMINAL_WIDTH } from "./paragraph.js";

const folder = mkdtempSync(join(tmpdir(), "bit33-compat-"));
after(() => rmSync(folder, { recursive: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** A built-in profile under another name. */
function copyOf(kind: "guest" | "vmm" | "device", name: string, newName: string): string {
  return file(`${newName}.yaml`, builtinText(kind, name).replace(`name: ${name}`, `name: ${newName}`));
}

type Judge = (guest: string, vmm: string, device: string) => Verdict | null;

async function run(argv: readonly string[], judge: Judge = () => "works", env: NodeJS.ProcessEnv = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const asked: { matrix: Matrix; options: RunOptions | undefined }[] = [];
  const engine = async (matrix: Matrix, options?: RunOptions): Promise<readonly Cell[]> => {
    asked.push({ matrix, options });
    return matrix.guests.flatMap(({ name: guest }) =>
      matrix.vmms.flatMap(({ name: vmm, transport }) =>
        matrix.devices.map(({ name: device, transports }) => {
          const verdict = transports.includes(transport) ? judge(guest, vmm, device) : null;
          const name = `${guest}/${vmm}/${device}`;
          if (verdict === null) return inapplicable(name, `${vmm} does not reach ${device}`);
          return cell(name, verdict, { config: { ...CONFIG, transport } });
        }),
      ),
    );
  };
  const status = await compatCommand(argv, {
    terminal: { print: (line) => out.push(line) > 0, complain: (line) => err.push(line) > 0 },
    screen: { width: 100, paint: plain, progress: { tell: () => {}, end: () => {} } },
    run: engine,
    env,
    now: () => new Date("2026-11-22T22:30:00Z"),
  });
  return { status, out: out.join("\n"), err: err.join("\n"), asked };
}

async function refuses(argv: readonly string[], line: RegExp) {
  const { status, out, err, asked } = await run(argv);
  assert.deepEqual([status, out, asked.length], [2, "", 0], err);
  assert.match(err, line);
  assert.doesNotMatch(err, /\n/);
}

const names = (profiles: readonly { readonly name: string }[]) => profiles.map(({ name }) => name);
const SMALL = ["--guest=plain", "--vmm=qemu-7.2", "--device=bit33-auto", "--device=bit33-on"];

describe("bit33 compat", () => {
  it("runs what it is restricted to, in the order given, and says where to go next", async () => {
    const { status, out, asked } = await run([...SMALL, "--threads=3"], (_, __, device) =>
      device === "bit33-on" ? "stalls" : "works",
    );
    const [{ matrix, options }] = asked;
    assert.deepEqual(
      [names(matrix.guests), names(matrix.vmms), names(matrix.devices)],
      [["plain"], ["qemu-7.2"], ["bit33-auto", "bit33-on"]],
    );
    assert.equal(options?.threads, 3);
    assert.equal(status, 0);
    assert.match(out, /^Guest plain: /);
    assert.match(out, /\n {2}qemu-7\.2 {9}works {7}stalls 1\n/);
    assert.match(out, /\n2 combinations: 2 ran, 0 do not apply, in \d+\.\d s\.\nworks 1 · stalls 1\n/);
    assert.match(out, /\n {2}bit33 compat --explain plain\/qemu-7\.2\/bit33-on$/);
  });

  it("runs a profile of one's own against everything", async () => {
    const mine = copyOf("device", "linux-5.15", "mine");
    const { asked } = await run(["--device", mine, "--vmm=qemu-7.2"]);
    const [{ matrix }] = asked;
    assert.deepEqual(names(matrix.devices), ["mine"]);
    assert.deepEqual(names(matrix.guests).slice(0, 2), ["plain", "viommu-strict"]);
  });

  it("ends with status 1 on a verdict that is not to be", async () => {
    assert.equal((await run([...SMALL, "--fail-on=exposes,stalls"], () => "stalls")).status, 1);
    assert.equal((await run([...SMALL, "--fail-on", "exposes, faults"], () => "stalls")).status, 0);
  });

  it("as JSON prints an object a line, and nothing else", async () => {
    const { out } = await run(
      ["--guest=plain", "--vmm=qemu-7.2", "--device=bit33-on", "--device=linux-5.15", "--json"],
      () => "stalls",
    );
    const [first, second] = out.split("\n").map((line) => JSON.parse(line));
    assert.deepEqual(Object.keys(first), [
      "guest",
      "vmm",
      "device",
      "verdict",
      "reason",
      "config",
      "evidence",
      "sources",
    ]);
    assert.deepEqual(
      [first.verdict, second.verdict, second.reason],
      ["stalls", null, "qemu-7.2 does not reach linux-5.15"],
    );
  });

  it("writes a page, and says so where it does not disturb", async () => {
    const path = join(folder, "page.html");
    const { err } = await run([...SMALL, "--html", path]);
    assert.equal(err, `bit33: wrote the page ${path}`);
    assert.match(
      readFileSync(path, "utf8"),
      /<code>bit33 compat --guest plain --vmm qemu-7\.2 --device bit33-auto --device bit33-on<\/code>/,
    );
  });

  it("writes a mail about what breaks", async () => {
    const path = join(folder, "matrix.mbox");
    const { err } = await run([...SMALL, "--mail", path], () => "faults", { EMAIL: "Ada <ada@example.org>" });
    assert.match(
      err,
      /^bit33: wrote a mail of \d+ lines to .*; read it, then: git send-email --to=LIST [^;]*$/,
    );
    assert.match(
      readFileSync(path, "utf8"),
      /\nFrom: Ada <ada@example\.org>\nSubject: \[BUG\] vhost-user-vsock: 2 combinations/,
    );
  });
});

describe("--explain", () => {
  const CELL = "restricted-dma/crosvm-2022-07/linux-5.15";

  it("tells the story of one combination", async () => {
    const { status, out, asked } = await run(["--explain", CELL], () => "fails-to-start");
    assert.equal(status, 0);
    assert.deepEqual(
      [names(asked[0].matrix.guests), names(asked[0].matrix.vmms), names(asked[0].matrix.devices)].flat(),
      CELL.split("/"),
    );
    assert.match(out, new RegExp(`^${CELL}\n`));
    assert.match(out, /HERE BELIEF AND FACT PART/);
    assert.match(out, new RegExp(`again {7}bit33 compat --explain ${CELL}$`));
  });

  it("says why a combination does not apply, and mails nothing then", async () => {
    const { status, out } = await run(["--explain", "plain/qemu-7.2/linux-5.15"]);
    assert.equal(status, 0);
    assert.match(out, /this combination does not apply, since qemu-7\.2 does not reach linux-5\.15/);
    const mailed = await run(["--explain", "plain/qemu-7.2/linux-5.15", "--mail", join(folder, "none.mbox")]);
    assert.equal(mailed.status, 2);
    assert.match(mailed.err, /^bit33: --mail: this combination does not apply: /);
  });

  it("as JSON has the story too", async () => {
    const { out } = await run(["--explain", CELL, "--json"]);
    assert.equal(JSON.parse(out).story.steps.length, 7);
  });

  it("finds a profile of one's own by its name, and says so in the command that runs it again", async () => {
    const mine = copyOf("vmm", "qemu-7.2", "my-vmm");
    const { out, asked } = await run(["--explain", "plain/my-vmm/bit33-on", "--vmm", mine]);
    assert.equal(asked[0].matrix.vmms[0].name, "my-vmm");
    assert.match(
      out.replaceAll(/\s+/g, " "),
      new RegExp(`again bit33 compat --explain plain/my-vmm/bit33-on --vmm ${mine}$`),
    );
  });

  it("writes a mail with the story", async () => {
    const path = join(folder, "story.mbox");
    const { err } = await run(["--explain", CELL, "--mail", path], () => "fails-to-start");
    assert.match(err, /put your name and address into its From line first \(or set EMAIL\)$/);
    const mail = readFileSync(path, "utf8");
    assert.match(mail, /\nSubject: \[BUG\] vhost-vsock: linux-5\.15 fails to start/);
    assert.match(mail, /\n#regzbot introduced: e13a6915a03f\n/);
  });

  it("is refused for what is no combination, with the near names", async () => {
    await refuses(
      ["--explain", "plain/qemu-7.2"],
      /--explain: "plain\/qemu-7\.2" is not GUEST\/VMM\/DEVICE, such as /,
    );
    await refuses(
      ["--explain", "plain/qemu-7.3/bit33-on"],
      /there is no VMM profile "qemu-7\.3"; did you mean qemu-7\.2/,
    );
    await refuses(["--explain", "plan/qemu-7.2/bit33-on"], /"plan"; did you mean plain\?/);
    await refuses(["--explain", "plain/bit33-on/qemu-7.2"], /--explain: bit33-on is a device, not a VMM$/);
    await refuses(
      ["--explain", "plain/qemu-7.2/bit33-on", "--vmm=qemu-10.0"],
      /--vmm: qemu-10\.0 is not the VMM of plain\/qemu-7\.2\/bit33-on/,
    );
  });
});

describe("--before and --after", () => {
  const CHANGE = ["--before", "linux-5.10", "--after", "linux-5.15", "--vmm=crosvm-2022-07"];
  const incident: Judge = (guest, _, device) =>
    guest === "restricted-dma" && device === "linux-5.15" ? "fails-to-start" : "works";

  it("show what got worse, with status 1", async () => {
    const { status, out, asked } = await run(CHANGE, incident);
    assert.equal(status, 1);
    assert.deepEqual(names(asked[0].matrix.devices), ["linux-5.10", "linux-5.15"]);
    assert.match(
      out,
      /^Worse with linux-5\.15 than with linux-5\.10: 1 combination\n\n {2}works -> fails-to-start: .*\n {4}restricted-dma with crosvm-2022-07\n\n7 combinations keep/,
    );
  });

  it("show what got better, with status 0", async () => {
    const { status, out } = await run(
      ["--before=linux-5.15", "--after=linux-5.10", "--vmm=crosvm-2022-07"],
      incident,
    );
    assert.equal(status, 0);
    assert.match(out, /^Better with linux-5\.10 than with linux-5\.15: 1 combination\n/);
  });

  it("say if nothing changes", async () => {
    assert.equal((await run(CHANGE)).out, "8 combinations keep their verdict.");
  });

  it("compare VMMs as well, for the guests that are named", async () => {
    const { out, asked } = await run(
      ["--before=crosvm-2022-07", "--after=crosvm-2022-08", "--guest=plain"],
      (_, vmm, device) => (device === "linux-5.15" && vmm === "crosvm-2022-07" ? "stalls" : "works"),
    );
    assert.deepEqual(
      [names(asked[0].matrix.guests), names(asked[0].matrix.vmms)],
      [["plain"], ["crosvm-2022-07", "crosvm-2022-08"]],
    );
    assert.match(out, /stalls -> works: .*\n {4}plain with linux-5\.15\n/);
  });

  it("compare a profile with an edited copy of the same name", async () => {
    const edited = file("edited.yaml", builtinText("device", "linux-5.10"));
    const { status, out } = await run([
      "--before=linux-5.10",
      "--after",
      edited,
      "--guest=plain",
      "--vmm=crosvm-2022-07",
    ]);
    assert.deepEqual([status, out], [0, "1 combination keeps its verdict."]);
  });

  it("as JSON are an object a change", async () => {
    const lines = (await run([...CHANGE, "--json"], incident)).out
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.deepEqual(
      lines.map(({ change, guest, before, after }) => [change, guest, before.verdict, after.verdict]),
      [["worse", "restricted-dma", "works", "fails-to-start"]],
    );
  });

  it("write the mail that a kernel list takes", async () => {
    const path = join(folder, "change.mbox");
    await run([...CHANGE, "--mail", path], incident);
    const mail = readFileSync(path, "utf8");
    assert.match(
      mail,
      /\nSubject: \[REGRESSION\] vhost-vsock: linux-5\.15 fails to start with\n crosvm-2022-07 and a restricted-dma guest\n/,
    );
    assert.match(
      mail,
      /\n {2}bit33 compat --before linux-5\.10 --after linux-5\.15 \\\n {6}--vmm crosvm-2022-07\n/,
    );
    assert.match(mail, /\n#regzbot introduced: e13a6915a03f\n/);
  });

  it("are refused for what cannot be compared", async () => {
    await refuses(["--before=linux-5.10"], /--before compares with --after, which is missing/);
    await refuses(["--after=linux-5.10"], /--after compares with --before, which is missing/);
    await refuses(
      ["--before=linux-5.10", "--after=qemu-7.2"],
      /--after: linux-5\.10 is a device and qemu-7\.2 is a VMM; compare two of one kind/,
    );
    await refuses(
      ["--before=plain", "--after=plain"],
      /--before: plain is a guest; compare two devices or two VMMs/,
    );
    await refuses(
      ["--before=linux-5.1", "--after=linux-5.15"],
      /--before: there is no device or VMM "linux-5\.1"; did you mean linux-5\.10 or linux-5\.15/,
    );
    await refuses([...CHANGE, "--device=bit33-on"], /--device does not go with a comparison of devices/);
  });
});

describe("--list and --dump", () => {
  it("list names every profile with program, evidence, source and a sentence", async () => {
    const { out, asked } = await run(["--list"]);
    assert.match(out, /^Guests\n\n {2}plain {2,}\S.*\n {10,}\S/);
    assert.match(out, /\nVMMs\n[\s\S]*\n {2}qemu-7\.2 {2,}QEMU 7\.2/);
    assert.match(
      out,
      /\nDevices\n[\s\S]*\n {2}linux-5\.15 {2,}Linux 5\.15[\s\S]*derived; [\s\S]*e13a6915a03f/,
    );
    assert.equal(asked.length, 0);
    for (const line of out.split("\n")) assert.ok([...line].length <= 100, line);
  });

  it("list may be JSON", async () => {
    const lines = (await run(["--list", "--json"])).out.split("\n").map((line) => JSON.parse(line));
    const incident = lines.find(({ name }) => name === "linux-5.15");
    assert.deepEqual(Object.keys(incident), ["kind", "name", "program", "summary", "evidence", "source"]);
  });

  it("dump prints the file as it is", async () => {
    assert.equal(`${(await run(["--dump", "qemu-7.2"])).out}\n`, builtinText("vmm", "qemu-7.2"));
    await refuses(["--dump", "qemu-7.3"], /--dump: there is no profile "qemu-7\.3"; did you mean qemu-7\.2/);
  });
});

describe("a mistake", () => {
  it("in a name says which are near", async () => {
    await refuses(["--vmm=qemu"], /there is no VMM profile "qemu"; did you mean .*qemu-7\.2/);
    await refuses(["--device=qemu-7.2"], /--device: qemu-7\.2 is a VMM, not a device/);
    await refuses(
      ["--guest=xyzzy"],
      /there is no guest profile "xyzzy"; `bit33 compat --list` names all of them/,
    );
  });

  it("in a file has its line and column", async () => {
    const bad = file("bad.yaml", builtinText("vmm", "qemu-7.2").replace("queues: 2", "queues: 7"));
    await refuses(["--vmm", bad], /^bit33: .*bad\.yaml:\d+:\d+: /);
    await refuses(
      ["--vmm", copyOf("device", "linux-5.15", "other")],
      /other\.yaml:\d+:\d+: this describes a device, and a VMM was asked for/,
    );
    await refuses(
      ["--vmm", join(folder, "missing.yaml")],
      /missing\.yaml: the file cannot be read \(ENOENT\)/,
    );
  });

  it("that would make two rows of one name is refused", async () => {
    await refuses(
      ["--vmm=qemu-7.2", "--vmm=qemu-7.2"],
      /--vmm: qemu-7\.2 and qemu-7\.2 are both called qemu-7\.2; keep one/,
    );
  });

  it("in other values says what they may be", async () => {
    await refuses(["--fail-on=explodes"], /--fail-on: unknown verdict "explodes"; did you mean exposes\?/);
    await refuses(["--threads=0"], /--threads: "0" is not a number from 1 to 64/);
    await refuses(
      [...SMALL, "--html=/no/such/folder/x.html"],
      /--html: \/no\/such\/folder is no folder that can be written to/,
    );
    await refuses(["--explian=x"], /unknown option --explian; did you mean --explain\?/);
    await refuses(["plain"], /unexpected argument "plain"/);
  });

  it("of two questions at once is refused", async () => {
    await refuses(["--list", "--dump=qemu-7.2"], /--list does not go with --dump; keep one of them/);
    await refuses(["--explain=a/b/c", "--before=x"], /--explain does not go with --before/);
    await refuses(["--explain=a/b/c", "--html=x"], /--explain does not go with --html/);
    await refuses(["--before=a", "--after=b", "--fail-on=stalls"], /--before does not go with --fail-on/);
  });

  it("in what a file can be written to comes after the answer, with status 2", async () => {
    const { status, err } = await run([...SMALL, "--html", folder.concat("/.")]);
    assert.equal(status, 2);
    assert.match(err, /--html: .* cannot be written \(EISDIR\)/);
  });
});

it("lets no gate pass through which nothing came", async () => {
  const judged = await run(["--guest=plain", "--vmm=qemu-7.2", "--device=linux-5.15", "--fail-on=faults"]);
  assert.equal(judged.status, 2);
  assert.match(judged.err, /^bit33: --fail-on: no combination applies/);
  const compared = await run(["--before=linux-5.15", "--after=bit33-auto"]);
  assert.equal(compared.status, 2);
  assert.match(compared.out, /^No combination applies to both linux-5\.15 and bit33-auto/);
});

it("names the user's own files again in the command that tells a story", async () => {
  const mine = copyOf("vmm", "qemu-7.2", "own-vmm");
  const page = join(folder, "own.html");
  const judge: Judge = (_, vmm) => (vmm === "own-vmm" ? "faults" : "works");
  const explain = `bit33 compat --explain plain/own-vmm/bit33-on --vmm ${mine}`;
  const where = ["--guest=plain", "--device=bit33-on"];
  const matrix = await run([...where, "--vmm", mine, "--vmm=qemu-7.2", "--html", page], judge);
  assert.ok(matrix.out.endsWith(`\n  ${explain}`), matrix.out);
  assert.ok(readFileSync(page, "utf8").includes(`"--vmm ${mine}"`));
  const compared = await run([...where, "--before=qemu-7.2", "--after", mine], judge);
  assert.ok(compared.out.endsWith(`\n${explain} tells how it comes about.`), compared.out);
  const told = await run(explain.split(" ").slice(2), judge);
  assert.equal(told.status, 0, told.err);
});

it("the help fits a terminal and names every option", async () => {
  const { status, out } = await run(["--help"]);
  assert.equal(status, 0);
  for (const line of out.split("\n")) assert.ok(line.length <= TERMINAL_WIDTH, line);
  for (const option of [
    "guest",
    "vmm",
    "device",
    "explain",
    "before",
    "after",
    "list",
    "dump",
    "json",
    "html",
    "mail",
    "fail-on",
    "threads",
  ]) {
    assert.match(out, new RegExp(`^ {2}--${option} `, "m"));
  }
});
