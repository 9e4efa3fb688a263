/**
 * One VM's device in a process of its own, as the main process sees it: starts the process (`process-entry.ts`), hands
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
import type { VmConfig } from "./config/vm-config.js";
import { type DeviceRunner, Questions, type RunnerFigures } from "./device-runner.js";
import { obey } from "./forward/command-relay.js";
import type { CommandRunner } from "./forward/command-runner.js";
import type { ConfinedStart, FromProcess, ToProcess } from "./process-messages.js";
import { descriptorsOf, type VmSockets } from "./vm-sockets.js";
import { levelOf } from "./worker-thread.js";

/** The delay doubles with each death, up to the longest; a process that has served so long begins anew. */
export const FIRST_RESTART_MS = 1000;
export const LONGEST_RESTART_MS = 30_000;
const PROVEN_AFTER_MS = 60_000;

/** A device that was asked to end does so in milliseconds; one that does not is killed. */
const STOP_TIMEOUT_MS = 5000;

export class DeviceProcess implements DeviceRunner {
  readonly ready: Promise<void>;
  readonly ended: Promise<void>;
  restarts = 0;
  readonly #config: VmConfig;
  readonly #sockets: VmSockets;
  readonly #log: Logger;
  readonly #confined: boolean;
  readonly #commands: CommandRunner;
  /** Our end of the socket that carries the descriptors of commands; of the process that there is. */
  #commandSocket = -1;
  readonly #questions = new Questions<RunnerFigures>();
  #child: ChildProcess | undefined;
  #wasReady = false;
  #stopping = false;
  /** Its descriptors are closed. */
  #over = false;
  #nextDelayMs = FIRST_RESTART_MS;
  #startedAtMs = 0;
  #restartTimer: NodeJS.Timeout | undefined;
  #killTimer: NodeJS.Timeout | undefined;
  #becameReady: () => void = () => {};
  #settle: { readonly resolve: () => void; readonly reject: (reason: unknown) => void } = {
    resolve: () => {},
    reject: () => {},
  };

  /** Takes over the descriptors of `sockets`, and closes them at its end. `confined`: with Landlock (`confined-entry.ts`). */
  constructor(config: VmConfig, sockets: VmSockets, log: Logger, commands: CommandRunner, confined: boolean) {
    this.#commands = commands;
    commands.exited = (id) => this.#send({ kind: "command-exited", id });
    this.#confined = confined;
    this.#config = config;
    this.#sockets = sockets;
    this.#log = log;
    const started = new Promise<void>((resolve) => {
      this.#becameReady = resolve;
    });
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.ready = Promise.race([started, this.ended]);
    this.ended.catch(() => {});
    this.#start();
  }

  #start(): void {
    const [ours, theirs] = socketPair();
    this.#commandSocket = ours;
    const inherited = [...descriptorsOf(this.#sockets), theirs];
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
    const targets = this.#config.forwards.map(({ target }) => target);
    const tcpPorts = targets.flatMap((target) => (target.kind === "tcp" ? [target.port] : []));
    return [file("./confined-entry.js"), JSON.stringify({ tcpPorts, descriptors } satisfies ConfinedStart)];
  }

  /** The process listens. */
  #tellStart(): void {
    if (this.#stopping) {
      this.#send({ kind: "close" });
      return;
    }
    const { vmm, seqpacketFd, listens } = this.#sockets;
    this.#send({
      kind: "start",
      config: this.#config,
      listening: vmm.listening,
      hasSeqpacket: seqpacketFd !== undefined,
      guestPorts: listens.map(({ guestPort }) => guestPort),
      logLevel: levelOf(this.#log),
    });
  }

  #receive(child: ChildProcess, message: FromProcess): void {
    switch (message.kind) {
      case "here":
        this.#tellStart();
        return;
      case "command":
      case "command-over":
        // The socket is that of the process that there is now.
        if (this.#child === child && !obey(message, this.#commandSocket, this.#commands))
          this.#send({ kind: "command-exited", id: message.id });
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
      case "finished":
        // The one VMM that was inherited has left: the process ends, as it should.
        this.#stopping = true;
        return;
    }
  }

  /** The process is gone; called once for each. */
  #gone(child: ChildProcess, how: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    closeSync(this.#commandSocket);
    this.#commands.endAll();
    clearTimeout(this.#killTimer);
    this.#questions.giveUp();
    if (this.#stopping) {
      this.#end();
      return;
    }
    const restartMs = this.#wasReady && this.#sockets.vmm.listening ? this.#takeDelay() : undefined;
    const next = restartMs === undefined ? "" : `; it is started again in ${restartMs} ms`;
    this.#log.log({
      event: "process-died",
      vm: this.#config.guestCid,
      message: `the process of this VM's device is gone: ${how}${next}`,
      fields: { pid: child.pid ?? null, restartMs: restartMs ?? null },
    });
    if (restartMs === undefined) {
      this.#end(new Error(`the process of VM ${this.#config.guestCid} is gone: ${how}`));
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

  #end(failure?: Error): void {
    if (this.#over) return;
    this.#over = true;
    for (const fd of descriptorsOf(this.#sockets)) closeSync(fd);
    if (failure === undefined) this.#settle.resolve();
    else this.#settle.reject(failure);
  }

  stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    clearTimeout(this.#restartTimer);
    const child = this.#child;
    if (child === undefined) {
      this.#end();
      return;
    }
    this.#send({ kind: "close" });
    this.#killTimer = setTimeout(() => child.kill("SIGKILL"), STOP_TIMEOUT_MS);
  }

  async figures(): Promise<RunnerFigures | undefined> {
    if (this.#child === undefined) return undefined;
    return this.#questions.ask((id) => this.#send({ kind: "figures", id }));
  }

  #send(message: ToProcess): void {
    // A process that is just dying takes no message; "exit" tells of it.
    if (this.#child?.connected === true) this.#child.send(message, () => {});
  }
}
