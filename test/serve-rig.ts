/** `bit33 serve` and `bit33 ctl` as processes, as a user starts them, and guests on the sockets that they make. */
import assert from "node:assert/strict";
import { type ChildProcess, type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { PlatformOptions } from "../src/guest/platform.js";
import { builtinVmm } from "../src/profiles/builtin.js";
import { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { assertSame, noise } from "./device/rig.js";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));

/** A net for what hangs; no test depends on it. */
export const SERVE_TIMEOUT_MS = 120_000;
const WAIT_MS = 30_000;

export interface LogLine {
  readonly event: string;
  readonly vm?: number;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface Finished {
  readonly status: number | null;
  readonly output: string;
  readonly complaint: string;
}

/** Runs a command to its end. */
export function run(...argv: string[]): Promise<Finished> {
  return finished(spawn(process.execPath, [MAIN, ...argv], { stdio: ["ignore", "pipe", "pipe"] }));
}

/** The same as another user, which takes root. */
export function runAs(uid: number, ...argv: string[]): Promise<Finished> {
  return finished(
    spawn(process.execPath, [MAIN, ...argv], { uid, gid: uid, stdio: ["ignore", "pipe", "pipe"] }),
  );
}

async function finished(child: ChildProcessByStdio<null, Readable, Readable>): Promise<Finished> {
  let [output, complaint] = ["", ""];
  child.stdout.on("data", (text) => {
    output += text;
  });
  child.stderr.on("data", (text) => {
    complaint += text;
  });
  const [status] = await once(child, "close");
  return { status, output, complaint };
}

/** Whether somebody listens on a Unix socket. A host program that says nothing and leaves is no news to a device. */
async function isServed(path: string): Promise<boolean> {
  const socket = createConnection(path);
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

export class ServeRig {
  readonly directory = mkdtempSync(join(tmpdir(), "bit33-serve-"));
  readonly log: LogLine[] = [];
  /** Of the program that is started, beside what this process has. */
  environment: NodeJS.ProcessEnv = {};
  /** What each VM is served with beside its CID and paths: "max-connections=50". */
  vmSettings: readonly string[] = [];
  /** Groups of VMs, by CID; a VM that is not in it names none. */
  groups: Readonly<Record<number, string>> = {};
  /** A command that runs the command after it, as `prlimit` does. */
  prefix: readonly string[] = [];
  /** Where its log goes, instead of to `log`: a descriptor, or a socket that nobody reads. */
  logsTo: number | "unread" | undefined;
  readonly #machines = new Set<VirtualMachine>();
  readonly #servers = new Set<Server>();
  #child: ChildProcess | undefined;
  #exit: Promise<unknown[]> = Promise.resolve([]);

  path(name: string): string {
    return join(this.directory, name);
  }

  #settings(cid: number): string[] {
    const paths = [`socket=${this.path(`vm${cid}.sock`)}`, `uds-path=${this.path(`vm${cid}.vsock`)}`];
    const groups = this.groups[cid] === undefined ? [] : [`groups=${this.groups[cid]}`];
    return [`guest-cid=${cid}`, ...paths, ...groups, ...this.vmSettings];
  }

  vmOption(cid: number): string {
    return this.#settings(cid).join(",");
  }

  /** Asks the control socket to add a VM. */
  add(cid: number): Promise<Finished> {
    return this.ctl("add", ...this.#settings(cid).map((setting) => `--${setting}`));
  }

  /** Starts `bit33 serve` with a VM for each CID, and waits until all of them listen, and the control socket if one is asked for. */
  async start(cids: readonly number[], ...options: string[]): Promise<void> {
    const vms = cids.flatMap((cid) => ["--vm", this.vmOption(cid)]);
    this.startWith([...vms, ...options]);
    if (this.logsTo !== undefined) {
      for (const cid of cids) await this.until(() => isServed(this.path(`vm${cid}.vsock`)), "the device");
      return;
    }
    for (const cid of cids) await this.logged("listening", cid);
    if (options.includes("--control")) await this.logged("control-served");
  }

  /** Starts `bit33 serve` with such options and waits for nothing. */
  startWith(options: readonly string[]): void {
    this.#spawn(this.prefix, options, [], {});
  }

  /** The same with sockets, as systemd passes them on; the shell makes its own number that of the program. */
  startPassing(sockets: readonly (readonly [name: string, fd: number])[], options: readonly string[]): void {
    const names = sockets.map(([name]) => name).join(":");
    const descriptors = sockets.map(([, fd]) => fd);
    const environment = { LISTEN_FDS: String(sockets.length), LISTEN_FDNAMES: names };
    this.#spawn(["/bin/sh", "-c", 'LISTEN_PID=$$ exec "$0" "$@"'], options, descriptors, environment);
  }

  #spawn(
    prefix: readonly string[],
    options: readonly string[],
    descriptors: readonly number[],
    environment: NodeJS.ProcessEnv,
  ): void {
    const [command, ...argv] = [...prefix, process.execPath, MAIN, "serve", "--log-format", "json"];
    const standardError = typeof this.logsTo === "number" ? this.logsTo : "pipe";
    const child = spawn(command, [...argv, ...options], {
      stdio: ["ignore", "ignore", standardError, ...descriptors],
      env: { ...process.env, ...this.environment, ...environment },
    });
    this.#child = child;
    this.#exit = once(child, "exit");
    if (this.logsTo !== undefined || child.stderr === null) return;
    createInterface(child.stderr).on("line", (line) => {
      this.log.push(line.startsWith("{") ? JSON.parse(line) : { event: "", message: line });
    });
  }

  /** Status and signal of the end. */
  get exited(): Promise<unknown[]> {
    return this.#exit;
  }

  get pid(): number {
    assert.ok(this.#child?.pid !== undefined);
    return this.#child.pid;
  }

  /** Waits for the `count`th record of an event. */
  async logged(event: string, vm?: number, count = 1): Promise<LogLine> {
    const find = () =>
      this.log.filter((line) => line.event === event && (vm === undefined || line.vm === vm));
    await this.until(
      () => find().length >= count,
      () => `${event} in ${JSON.stringify(this.log)}`,
    );
    return find()[count - 1];
  }

  /** Waits until something is so. `what` says it, for the one who reads why it never was. */
  async until(condition: () => boolean | Promise<boolean>, what: string | (() => string)): Promise<void> {
    const deadlineMs = performance.now() + WAIT_MS;
    while (!(await condition())) {
      if (performance.now() >= deadlineMs)
        assert.fail(`waited in vain: ${typeof what === "string" ? what : what()}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  ctl(...argv: string[]): Promise<Finished> {
    const [command, ...rest] = argv;
    return run("ctl", command, "--control", this.path("control"), ...rest);
  }

  /** Boots a guest of one of the VMs. */
  boot(cid: number, platform: Partial<PlatformOptions> = {}): VirtualMachine {
    const machine = new VirtualMachine({
      profile: builtinVmm("qemu-7.2"),
      socketPath: this.path(`vm${cid}.sock`),
      platform: { kind: "direct", ...platform },
    });
    this.#machines.add(machine);
    return machine;
  }

  off(machine: VirtualMachine): void {
    if (this.#machines.delete(machine)) machine.close();
  }

  /** Its VMM dies. */
  kill(machine: VirtualMachine): void {
    if (this.#machines.delete(machine)) machine.kill();
  }

  /** Sends `bytes` from a guest to a host program and back. */
  async exchange(machine: VirtualMachine, cid: number, bytes: number): Promise<void> {
    const port = 1024 + Math.floor(Math.random() * 60_000);
    const server = createServer((socket: Socket) => socket.pipe(socket));
    this.#servers.add(server);
    server.listen(this.path(`vm${cid}.vsock_${port}`));
    await once(server, "listening");
    const connection = await machine.driver.connect(port);
    const data = noise(bytes);
    const sent = connection.write(data).then(() => connection.shutdown(2));
    assertSame(await connection.readToEnd(), data, "what came back");
    await sent;
    await connection.close();
    server.close();
    this.#servers.delete(server);
  }

  /** Sends a signal and returns status and signal of the end. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<unknown[]> {
    this.#child?.kill(signal);
    return this.#exit;
  }

  async close(): Promise<void> {
    for (const machine of [...this.#machines]) this.off(machine);
    for (const server of this.#servers) server.close();
    this.#child?.kill("SIGKILL");
    await this.#exit;
    rmSync(this.directory, { recursive: true, force: true });
  }
}
