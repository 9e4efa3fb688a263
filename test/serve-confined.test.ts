/**
 * `bit33 serve --isolate process`: the process of a VM may open what it needs and nothing else. A probe that node loads
 * first of all (NODE_OPTIONS) tries, from within that process, and writes what came of it to standard error.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { landlockVersion } from "../src/linux/landlock.js";
import { run, SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

/** What the probe tries; each gives "done" or the code of its error. */
interface Outcome {
  readonly argv: string[];
  readonly read: string;
  readonly readInPool: string;
  readonly readInThread: string;
  readonly list: string;
  readonly create: string;
  readonly execute: string;
  readonly signal: string;
  readonly allowedPort: string;
  readonly otherPort: string;
}

function probe(rig: ServeRig, allowedPort: number, otherPort: number): string {
  const [file, fresh] = [rig.path("secret"), rig.path("fresh")].map((path) => JSON.stringify(path));
  const source = `
    import fs from "node:fs";
    import net from "node:net";
    import { spawnSync } from "node:child_process";
    import { isMainThread, Worker } from "node:worker_threads";
    if (isMainThread && process.argv[1]?.endsWith("/process-entry.js")) {
      const attempt = (work) => { try { return work() ?? "done"; } catch (error) { return error.code; } };
      const later = (promise) => promise.then(() => "done", (error) => error.code);
      const connect = (port) => later(new Promise((resolve, reject) => {
        const socket = net.connect(port, "127.0.0.1", () => { socket.destroy(); resolve(); });
        socket.on("error", reject);
      }));
      const threadSource = 'const { parentPort } = require("node:worker_threads");' +
        'try { require("node:fs").readFileSync(${file}); parentPort.postMessage("done"); }' +
        'catch (error) { parentPort.postMessage(error.code); }';
      const thread = new Worker(threadSource, { eval: true, env: {}, execArgv: [] });
      const outcome = {
        argv: process.argv.slice(2),
        read: attempt(() => { fs.readFileSync(${file}); }),
        readInPool: await later(fs.promises.readFile(${file})),
        readInThread: await new Promise((resolve) => thread.once("message", resolve)),
        list: attempt(() => { fs.readdirSync("/etc"); }),
        create: attempt(() => { fs.writeFileSync(${fresh}, ""); }),
        execute: spawnSync("/bin/true").error?.code ?? "done",
        signal: attempt(() => { process.kill(process.ppid, "SIGWINCH"); }),
        allowedPort: await connect(${allowedPort}),
        otherPort: await connect(${otherPort}),
      };
      fs.writeSync(2, "PROBE " + JSON.stringify(outcome) + "\\n");
    }`;
  return `--import=data:text/javascript,${encodeURIComponent(source)}`;
}

async function probed(t: TestContext, ...options: string[]): Promise<Outcome> {
  const rig = new ServeRig();
  t.after(() => rig.close());
  writeFileSync(rig.path("secret"), "secret");
  const servers = [createServer(), createServer()];
  t.after(() => servers.forEach((server) => void server.close()));
  const ports = [];
  for (const server of servers) {
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    assert.ok(address !== null && typeof address === "object");
    ports.push(address.port);
  }
  rig.environment = { NODE_OPTIONS: probe(rig, ports[0], ports[1]) };
  const forward = `${rig.vmOption(3)},forward=22=tcp:127.0.0.1:${ports[0]}`;
  await rig.start([], "--vm", forward, "--isolate", "process", ...options);
  await rig.logged("listening", 3);
  // The device works as well as ever.
  await rig.exchange(rig.boot(3), 3, 100_000);
  const line = rig.log.find(({ message }) => message.startsWith("PROBE "));
  assert.ok(line !== undefined, JSON.stringify(rig.log));
  return JSON.parse(line.message.slice("PROBE ".length));
}

describe("bit33 serve --isolate process", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("lets a VM's process open no file, run no program and connect to no TCP port that it does not need", async (t) => {
    const version = landlockVersion();
    if (version === 0) {
      const { status, complaint } = await run(
        ...["serve", "--uds-path=/tmp/x", "--socket=/tmp/y", "--isolate=process", "--confine=on"],
      );
      assert.equal(status, 2);
      assert.match(complaint, /^bit33: --confine: this kernel has no Landlock/);
      t.skip("this kernel has no Landlock: boot one with CONFIG_SECURITY_LANDLOCK, and landlock in lsm=");
      return;
    }
    const outcome = await probed(t);
    const { argv, allowedPort, otherPort, signal, ...files } = outcome;
    assert.deepEqual(argv, []);
    for (const [attempt, result] of Object.entries(files)) assert.equal(result, "EACCES", attempt);
    assert.equal(allowedPort, "done");
    assert.equal(otherPort, version >= 4 ? "EACCES" : "done");
    assert.equal(signal, version >= 6 ? "EPERM" : "done");
  });

  it("confines nothing with --confine off", async (t) => {
    const { argv, ...outcome } = await probed(t, "--confine", "off");
    for (const [attempt, result] of Object.entries(outcome)) assert.equal(result, "done", attempt);
  });

  it("refuses --confine on for threads", async () => {
    const { status, complaint } = await run("serve", "--uds-path=/tmp/x", "--socket=/tmp/y", "--confine=on");
    assert.equal(status, 2);
    assert.match(complaint, /^bit33: --confine is about the processes of VMs; add --isolate process/);
  });
});
