/**
 * Runs what the documentation shows: each file of examples/, and each example of the library's doc comments and of its
 * page, as a program that imports "bit33", with guests on its devices. What it prints is what its comments say.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type { GuestConnection } from "../src/guest/connection.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { root } from "./vm/paths.js";

const BUILD = dirname(dirname(fileURLToPath(import.meta.url)));
/** A net for what hangs; no test depends on it. */
const TIMEOUT_MS = 60_000;
const CIDS = [3, 4, 5];

interface Example {
  readonly name: string;
  readonly code: string;
}

function files(): Example[] {
  const names = readdirSync(join(root, "examples")).filter((name) => name.endsWith(".js"));
  return names.map((name) => ({
    name: `examples/${name}`,
    code: readFileSync(join(root, "examples", name), "utf8"),
  }));
}

/** The ```js blocks of a source's doc comments, or of a page. */
function blocksOf(path: string): Example[] {
  const text = readFileSync(join(root, path), "utf8").replace(/^ *\* ?/gm, "");
  return [...text.matchAll(/^```js\n([\s\S]*?)^```$/gm)].map(([, code], index) => ({
    name: `${path}, example ${index + 1}`,
    code,
  }));
}

/** What an example's comments say that it prints, a line each. */
function printed({ code }: Example): string[] {
  return [...code.matchAll(/\/\/ prints (.*)$/gm)].map(([, line]) => line).sort();
}

/** The guest of the examples: echoes on port 1234, greets on 5678, asks on 80, and goes when it was answered there. */
async function play(socketPath: string, isOver: () => boolean): Promise<void> {
  const machine = await boot(socketPath, isOver);
  if (machine === undefined) return;
  try {
    const listener = machine.driver.listen(1234);
    const echoing = (async () => {
      for (;;) void echo(await listener.accept());
    })();
    echoing.catch(() => {});
    const greeted = talk(machine, 5678, "hello from the guest", isOver);
    const asked = talk(
      machine,
      80,
      "GET /index.html HTTP/1.1\r\nhost: host\r\nconnection: close\r\n\r\n",
      isOver,
    );
    // Whoever serves HTTP is done once it was asked; the others end by themselves.
    const wasAnswered = await Promise.race([asked, greeted.then(() => asked)]);
    while (!isOver() && !wasAnswered) await sleep(5);
  } finally {
    try {
      machine.close();
    } catch {
      // The example has closed its device meanwhile, and nobody answers the front-end any more.
      machine.kill();
    }
  }
}

async function boot(socketPath: string, isOver: () => boolean): Promise<VirtualMachine | undefined> {
  while (!isOver()) {
    await sleep(5);
    if (!existsSync(socketPath)) continue;
    try {
      return new VirtualMachine({
        profile: builtinVmm("qemu-7.2"),
        socketPath,
        platform: { kind: "direct" },
      });
    } catch {
      // It does not listen yet, or not any more.
    }
  }
  return undefined;
}

async function echo(connection: GuestConnection): Promise<void> {
  try {
    await connection.write(await connection.readToEnd());
    await connection.close();
  } catch {
    // The example has closed its socket.
  }
}

/** Says something to a port of the host as soon as anybody listens there. False if nobody ever did. */
async function talk(
  machine: VirtualMachine,
  port: number,
  text: string,
  isOver: () => boolean,
): Promise<boolean> {
  while (!isOver()) {
    const connection = await machine.driver.connect(port).catch(() => undefined);
    if (connection === undefined) {
      await sleep(10);
      continue;
    }
    await connection
      .write(Buffer.from(text))
      .then(() => connection.shutdown(2))
      .then(() => connection.readToEnd())
      .then(() => connection.close())
      .catch(() => {});
    return true;
  }
  return false;
}

async function run(example: Example): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "bit33-example-"));
  const installed = join(folder, "node_modules", "bit33");
  mkdirSync(installed, { recursive: true });
  // As npm would install it, from the build that is being tested.
  symlinkSync(BUILD, join(installed, "build"));
  symlinkSync(join(root, "package.json"), join(installed, "package.json"));
  writeFileSync(join(folder, "package.json"), '{ "type": "module" }');
  writeFileSync(join(folder, "example.js"), example.code);
  const child = spawn(process.execPath, ["example.js"], { cwd: folder });
  let isOver = false;
  let [output, complaints] = ["", ""];
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    complaints += chunk;
  });
  const closed = once(child, "close").then(([status]) => {
    isOver = true;
    return status;
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
  const players = CIDS.map((cid) => play(join(folder, `vm${cid}.sock`), () => isOver));
  try {
    const status = await closed;
    await Promise.all(players);
    assert.equal(status, 0, `${output}\n${complaints}`);
    const lines = output.split("\n").filter((line) => line !== "");
    assert.deepEqual(lines.sort(), printed(example), complaints);
  } finally {
    clearTimeout(timer);
    rmSync(folder, { recursive: true, force: true });
  }
}

const LIBRARY = "src/device/library";

for (const [what, examples] of [
  ["the files of examples/", files()],
  [
    "the examples of the library's doc comments",
    ["errors", "vsock-device", "vsock-listener"].flatMap((name) => blocksOf(`${LIBRARY}/${name}.ts`)),
  ],
  ["the examples of docs/library.md", blocksOf("docs/library.md")],
] as const) {
  describe(what, { timeout: 10 * TIMEOUT_MS }, () => {
    assert.ok(examples.length > 0);
    for (const example of examples)
      it(`${example.name} prints what it says`, async () => {
        assert.ok(printed(example).length > 0, "it says nothing of what it prints");
        await run(example);
      });
  });
}

describe("the exports of the library that do something", () => {
  it("each have an example of their own", () => {
    for (const [file, names] of [
      [
        "vsock-device",
        [
          "class VsockDevice",
          "async listen(",
          "async connect(",
          "async whenUp(",
          "async close(",
          "async function createVsockDevice",
        ],
      ],
      ["vsock-listener", ["class VsockListener"]],
      ["errors", ["class VsockError"]],
    ] as const) {
      const text = readFileSync(join(root, LIBRARY, `${file}.ts`), "utf8");
      for (const name of names) {
        const before = text.slice(0, text.indexOf(name));
        const comment = before.slice(before.lastIndexOf("/**"));
        assert.match(comment, /@example[\s\S]*```js/, `${name} has no example`);
      }
    }
  });
});
