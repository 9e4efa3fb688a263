/**
 * `bit33 observe` as a user types it, with front-ends that do not let themselves be observed: one line says what is
 * wrong, the exit status which kind of wrong it is, and nothing is left behind.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const PLAYER = fileURLToPath(new URL("player.js", import.meta.url));

interface Run {
  readonly status: number | null;
  readonly out: string;
  readonly err: string;
}

function start(args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, "observe", ...args], { stdio: ["ignore", "pipe", "pipe"] });
  let [out, err] = ["", ""];
  child.stdout.on("data", (part) => {
    out += part;
  });
  child.stderr.on("data", (part) => {
    err += part;
  });
  const ended = new Promise<Run>((resolve) => {
    child.on("close", (status) => resolve({ status, out, err }));
  });
  return { child, ended, said: () => err };
}

const observe = (args: readonly string[]): Promise<Run> => start(args).ended;
const lastLine = ({ err }: Run): string => err.trimEnd().split("\n").at(-1) ?? "";

describe("the command bit33 observe", { concurrency: 2 }, () => {
  let folder = "";
  before(() => {
    folder = mkdtempSync(join(tmpdir(), "b33-command-"));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const mistakes: readonly (readonly [string, readonly string[], RegExp])[] = [
    ["no socket", [], /no socket is named/],
    ["a second machine alone", ["--socket", "s", "--exec-viommu", "true"], /give --exec/],
    ["an empty command", ["--socket", "s", "--exec", " "], /--exec is empty/],
    [
      "no number of seconds",
      ["--socket", "s", "--timeout", "soon"],
      /--timeout: "soon" is no number of seconds/,
    ],
    ["a directory that is not there", ["--socket", "nowhere/s"], /--socket: there is no directory nowhere/],
    [
      "a file that cannot be written",
      ["--socket", "s", "--out", "nowhere/f"],
      /--out: there is no directory/,
    ],
    ["a path too long for a socket", ["--socket", "s".repeat(200)], /200 bytes, a socket's has 107/],
    ["a profile name with blanks", ["--socket", "s", "--name", "My VMM"], /--name: .* no profile name/],
    ["an unknown base", ["--socket", "s", "--base", "qemu-7.3"], /there is no VMM profile "qemu-7.3"/],
    ["a base of the other transport", ["--socket", "s", "--base", "crosvm-2022-07"], /--base: .*kernel/],
  ];
  for (const [what, args, message] of mistakes) {
    it(`refuses ${what} with status 2 and one line`, async () => {
      const run = await observe(args);
      assert.equal(run.status, 2, run.err);
      assert.match(run.err, message);
      assert.equal(run.err.trimEnd().split("\n").length, 1);
    });
  }

  it("explains itself", async () => {
    const { status, out } = await observe(["--help"]);
    assert.equal(status, 0);
    assert.match(out, /--exec-viommu CMD/);
  });

  const failures: readonly (readonly [string, (socket: string) => string, RegExp])[] = [
    [
      "that ends without connecting",
      () => "echo out of order >&2; exit 3",
      /no front-end came for session 1: it ended \(exit status 3\) and never connected: out of order/,
    ],
    ["that never connects", () => "sleep 1000", /no front-end came for session 1: nobody connected/],
    [
      "that speaks something else",
      (socket) =>
        `exec ${process.execPath} -e 'require("net").connect("${socket}").write("GET / HTTP/1.1\\n\\n\\n\\n")'`,
      /what connected for session 1 does not speak vhost-user/,
    ],
    [
      "that leaves at once, whatever is offered",
      (socket) =>
        `exec ${process.execPath} -e 'require("net").connect("${socket}", () => { console.error("I: go home"); process.exit(1) })'`,
      /in none of 10 sessions did the front-end start its rings: I: go home/,
    ],
  ];
  for (const [index, [what, command, message]] of failures.entries()) {
    it(`gives a front-end up ${what}, with status 1`, async () => {
      const socket = join(folder, `f${index}`);
      const run = await observe(["--socket", socket, "--exec", command(socket), "--timeout", "3"]);
      assert.equal(run.status, 1, run.err);
      assert.match(lastLine(run), message);
      assert.equal(run.out, "");
      assert.equal(existsSync(socket), false);
      assert.deepEqual(processesWith(socket), []);
    });
  }

  it("ends the front-end's whole process group with itself", async () => {
    const socket = join(folder, "group");
    const mark = join(folder, "mark");
    // A grandchild that only its command line tells.
    const command = `${process.execPath} -e 'setInterval(() => {}, 1000)' ${mark} & wait`;
    const { child, ended } = start(["--socket", socket, "--exec", command]);
    while (processesWith(mark).length < 2) await sleep(20);
    child.kill("SIGTERM");
    const run = await ended;
    assert.equal(run.status, 1);
    assert.match(lastLine(run), /ended by SIGTERM/);
    assert.deepEqual(processesWith(mark), []);
    assert.equal(existsSync(socket), false);
  });

  it("leaves a socket alone that somebody else listens on, and a file that is no socket", async () => {
    const path = join(folder, "file");
    writeFileSync(path, "mine");
    const run = await observe(["--socket", path, "--exec", "true"]);
    assert.equal(run.status, 2);
    assert.match(run.err, /exists and is not a socket/);
    assert.equal(readFileSync(path, "utf8"), "mine");
  });

  it("observes a front-end that somebody starts by hand, session by session", async () => {
    const socket = join(folder, "hand");
    const { child, ended, said } = start(["--socket", socket, "--name", "by-hand"]);
    const players: ReturnType<typeof spawn>[] = [];
    const asks = (): number => said().split("start the front-end now").length - 1;
    while (child.exitCode === null) {
      if (asks() > players.length) {
        for (const player of players) player.kill();
        const args = [PLAYER, "qemu-7.2", "restricted-dma", socket];
        players.push(spawn(process.execPath, args, { stdio: "ignore" }));
      }
      await sleep(20);
    }
    for (const player of players) player.kill();
    const { status, out, err } = await ended;
    assert.equal(status, 0, err);
    assert.equal(players.length, 8);
    assert.match(out, /^name: by-hand$/m);
    assert.match(out, /^ {2}- when: \[device-lacks-config\]\n {4}says: it closed the connection$/m);
    assert.match(
      out,
      /^ {2}# not seen \(no machine with a vIOMMU was started\); assumed\n {2}viommu: false$/m,
    );
  });
});

/** Ids of processes whose command line has this text, this one and the observing ones apart. */
function processesWith(text: string): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => {
      try {
        const line = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        return line.includes(text) && !line.includes(MAIN);
      } catch {
        return false;
      }
    });
}
