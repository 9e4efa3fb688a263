/**
 * One VM's device, or those of siblings, in a process of their own, as the main process sees it: starts the process (`process-entry.ts`), hands
 * it the VM's sockets, passes its log records on, and starts it again when it dies. The main process keeps the listening
 * sockets open, so whoever connects meanwhile waits in their backlogs.
 *
 * Why: system calls on guest memory take addresses. Within one process a wrong one could be another VM's memory.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { socketPair } from "../linux/unix-socket.js";
import type { Logger } from "../log/logger.js";
import { type DeviceRunner, Endings, Questions, type RunnerFigures, type RunnerVm } from "./device-runner.js";
import { obey } from "./forward/command-relay.js";
import type { CommandRequester } from "./forward/commands.js";
import type { ConfinedStart, FromProcess, ToProcess } from "./process-messages.js";
import { descriptorsOf } from "./vm-sockets.js";
import { levelOf } from "./worker-thread.js";

/** The delay doubles with each death, up to the longest; a process that has served so long begins anew. */
export const FIRST_RESTART_MS = 1000;
export const LONGEST_RESTART_MS = 30_000;
const PROVEN_AFTER_MS = 60_000;

/** A device that was asked to end does so in milliseconds; one that does not is killed. */
const STOP_TIMEOUT_MS = 5000;

/** Takes what was on its way for a VM that is gone. */
const NOBODY: CommandRequester = { start: ({ fd }) => closeSync(fd), over: () => {} };

export class DeviceProcess implements DeviceRunner {
  readonly ready: Promise<void>;
  restarts = 0;
  /** Those that are served, or are to be when the process is started again. */
  readonly #vms: Map<number, RunnerVm>;
  readonly #endings = new Endings();
  readonly #log: Logger;
  readonly #confined: boolean;
  /** Our end of the socket that carries the descriptors of commands; of the process that there is. */
  #commandSocket = -1;
  readonly #questions = new Questions<RunnerFigures>();
  #child: ChildProcess | undefined;
  #wasReady = false;
  readonly #stopping = new Set<number>();
  #nextDelayMs = FIRST_RESTART_MS;
  #startedAtMs = 0;
  #restartTimer: NodeJS.Timeout | undefined;
  #becameReady: () => void = () => {};

  /** `confined`: with Landlock (`confined-entry.ts`). */
  constructor(vms: readonly RunnerVm[], log: Logger, confined: boolean) {
    this.#confined = confined;
    this.#vms = new Map(vms.map((vm) => [vm.config.guestCid, vm]));
    this.#log = log;
    const started = new Promise<void>((resolve) => {
      this.#becameReady = resolve;
    });
    for (const { config, commands } of vms) {
      const cid = config.guestCid;
      this.#endings.begin(cid);
      commands.exited = (id) => this.#send({ kind: "command-exited", cid, id });
    }
    this.ready = Promise.race([started, ...vms.map(({ config }) => this.#endings.of(config.guestCid))]);
    this.ready.catch(() => {});
    this.#start();
  }

  ended(cid: number): Promise<void> {
    return this.#endings.of(cid);
  }

  #start(): void {
    const [ours, theirs] = socketPair();
    this.#commandSocket = ours;
    const sockets = [...this.#vms.values()].flatMap((vm) => descriptorsOf(vm.sockets));
    const inherited = [...sockets, theirs];
    this.#startedAtMs = performance.now();
    const child = spawn(process.execPath, this.#arguments(inherited.length), {
      // Standard error for what node itself has to say when it dies.
      stdio: ["ignore", "ignore", "inherit", "ipc", ...inherited],
    });
    closeSync(theirs);
    this.#child = child;
    child.on("message", (message: FromProcess) => this.#receive(child, message));
    // A process that could not be started, or a message that could not be sent: "close" follows or has come.
    child.on("error", (error) => this.#gone(child, `it could not be started or told: ${error.message}`));
    child.on("exit", (code, signal) =>
      this.#gone(child, signal === null ? `it ended with status ${code}` : `it was ended by ${signal}`),
    );
  }

  #arguments(descriptors: number): string[] {
    const file = (name: string) => fileURLToPath(new URL(name, import.meta.url));
    if (!this.#confined) return [file("./process-entry.js")];
    const forwards = [...this.#vms.values()].flatMap(({ config }) => config.forwards);
    const targets = forwards.map(({ target }) => target);
    const tcpPorts = targets.flatMap((target) => (target.kind === "tcp" ? [target.port] : []));
    return [file("./confined-entry.js"), JSON.stringify({ tcpPorts, descriptors } satisfies ConfinedStart)];
  }

  /** The process listens. */
  #tellStart(): void {
    this.#send({
      kind: "start",
      vms: [...this.#vms.values()].map(({ config, sockets }) => ({
        config,
        listening: sockets.vmm.listening,
        hasSeqpacket: sockets.seqpacketFd !== undefined,
        guestPorts: sockets.listens.map(({ guestPort }) => guestPort),
      })),
      logLevel: levelOf(this.#log),
    });
    // Who was told to end before it listened has not heard.
    for (const cid of this.#stopping) this.#send({ kind: "close", cid });
  }

  #receive(child: ChildProcess, message: FromProcess): void {
    switch (message.kind) {
      case "here":
        this.#tellStart();
        return;
      case "command":
      case "command-over":
        // The socket is that of the process that there is now.
        if (this.#child === child) this.#obey(message);
        return;
      case "log":
        this.#log.log(message.entry);
        return;
      case "figures":
        this.#questions.answer(message.id, message.answer);
        return;
      case "ready":
        this.#wasReady = true;
        this.#becameReady();
        return;
      case "gone":
        // It was told to end, or the one VMM that was inherited has left. With the last one the process is about to.
        if (this.#vms.size > 1) this.#endVm(message.cid);
        else this.#stopping.add(message.cid);
        return;
    }
  }

  #obey(message: FromProcess & { readonly kind: "command" | "command-over" }): void {
    const { cid, id } = message;
    const commands = this.#vms.get(cid)?.commands ?? NOBODY;
    if (!obey(message, this.#commandSocket, commands)) this.#send({ kind: "command-exited", cid, id });
  }

  /** The process is gone; called once for each. */
  #gone(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    closeSync(this.#commandSocket);
    for (const { commands } of this.#vms.values()) commands.endAll();
    this.#questions.giveUp();
    for (const cid of this.#stopping) this.#endVm(cid);
    if (this.#vms.size === 0) return;
    const all = [...this.#vms.values()];
    const mayRestart = this.#wasReady && all.every(({ sockets }) => sockets.vmm.listening);
    const restartMs = mayRestart ? this.#takeDelay() : undefined;
    const next = restartMs === undefined ? "" : `; it is started again in ${restartMs} ms`;
    for (const vm of this.#vms.keys()) {
      this.#log.log({
        event: "process-died",
        vm,
        message: `the process of this VM's device is gone: ${how}${next}`,
        fields: { pid: child.pid ?? null, restartMs: restartMs ?? null },
      });
    }
    if (restartMs === undefined) {
      for (const cid of [...this.#vms.keys()])
        this.#endVm(cid, new Error(`the process of VM ${cid} is gone: ${how}`));
      return;
    }
    this.#restartTimer = setTimeout(() => {
      this.restarts++;
      this.#start();
    }, restartMs);
  }

  #takeDelay(): number {
    if (performance.now() - this.#startedAtMs > PROVEN_AFTER_MS) this.#nextDelayMs = FIRST_RESTART_MS;
    const delayMs = this.#nextDelayMs;
    this.#nextDelayMs = Math.min(2 * delayMs, LONGEST_RESTART_MS);
    return delayMs;
  }

  #endVm(cid: number, failure?: Error): void {
    const vm = this.#vms.get(cid);
    if (vm === undefined) return;
    this.#vms.delete(cid);
    this.#stopping.delete(cid);
    for (const fd of descriptorsOf(vm.sockets)) closeSync(fd);
    vm.commands.endAll();
    this.#endings.end(cid, failure);
    // Nobody is left to start again; what still runs is about to end by itself.
    if (this.#vms.size === 0) clearTimeout(this.#restartTimer);
  }

  stop(cid: number): void {
    if (!this.#vms.has(cid) || this.#stopping.has(cid)) return;
    const child = this.#child;
    if (child === undefined) {
      this.#endVm(cid);
      return;
    }
    this.#stopping.add(cid);
    this.#send({ kind: "close", cid });
    // All who share it are at once: one that does not end cannot be ended alone.
    const timer = setTimeout(() => {
      if (this.#stopping.has(cid)) child.kill("SIGKILL");
    }, STOP_TIMEOUT_MS);
    this.#endings.of(cid).then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
  }

  async figures(cid: number): Promise<RunnerFigures | undefined> {
    if (this.#child === undefined) return undefined;
    return this.#questions.ask((id) => this.#send({ kind: "figures", id, cid }));
  }

  #send(message: ToProcess): void {
    // A process that is just dying takes no message; "exit" tells of it.
    if (this.#child?.connected === true) this.#child.send(message, () => {});
  }
}
