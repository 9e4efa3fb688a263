/**
 * `bit33 serve` as a child of the demo: the same program that a user would start, with its log as JSON lines, from
 * which the demo learns what the device decided and why.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** One line of the device's log. Fields depend on the event. */
export interface LogLine {
  readonly event: string;
  readonly vm?: number;
  readonly message: string;
  readonly [field: string]: unknown;
}

export interface ServedVm {
  readonly cid: number;
  readonly socketPath: string;
  readonly udsPath: string;
}

const MAIN = fileURLToPath(new URL("../main.js", import.meta.url));

export class ServeProcess {
  readonly #child: ChildProcess;
  readonly #lines: LogLine[] = [];
  /** What it wrote that is no log line: why it did not start. */
  readonly #complaints: string[] = [];
  readonly #ended: Promise<string>;

  private constructor(vms: readonly ServedVm[]) {
    const options = vms.flatMap(({ cid, socketPath, udsPath }) => [
      "--vm",
      `guest-cid=${cid},socket=${socketPath},uds-path=${udsPath}`,
    ]);
    this.#child = spawn(process.execPath, [MAIN, "serve", ...options, "--log-format", "json"], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    if (this.#child.stderr !== null)
      createInterface({ input: this.#child.stderr }).on("line", (line) => this.#line(line));
    this.#ended = new Promise((resolve) => {
      this.#child.on("error", (error) => resolve(error.message));
      this.#child.on("close", (code, signal) => resolve(this.#lastWords(code, signal)));
    });
  }

  /** Starts it; resolves once every VM's sockets listen, rejects with what it said if it ends before. */
  static async start(vms: readonly ServedVm[]): Promise<ServeProcess> {
    const serve = new ServeProcess(vms);
    const ended = serve.#ended.then((words) => Promise.reject(new Error(words)));
    const listening = Promise.all(vms.map(({ cid }) => serve.find(cid, "listening")));
    await Promise.race([listening, ended]);
    ended.catch(() => {});
    return serve;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** The latest line of an event about a VM; waits for the first. */
  find(vm: number, event: string): Promise<LogLine> {
    return new Promise((resolve) => {
      const look = () => {
        const found = this.#lines.findLast((line) => line.vm === vm && line.event === event);
        if (found === undefined) this.#watchers.add(look);
        else resolve(found);
      };
      look();
    });
  }
  readonly #watchers = new Set<() => void>();

  /** What went wrong for a VM, as far as the device noticed. */
  troubles(vm: number): LogLine[] {
    return this.#lines.filter((line) => line.vm === vm && (line.level === "error" || line.level === "warn"));
  }

  /** Asks it to end, as an init system would; resolves when it has. */
  async stop(): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#ended;
  }

  #line(line: string): void {
    if (!line.startsWith("{")) {
      this.#complaints.push(line);
      return;
    }
    this.#lines.push(JSON.parse(line) as LogLine);
    const watchers = [...this.#watchers];
    this.#watchers.clear();
    for (const look of watchers) look();
  }

  #lastWords(code: number | null, signal: string | null): string {
    if (this.#complaints.length > 0) return this.#complaints.join("\n");
    return `bit33 serve ended (${signal ?? `status ${code}`})`;
  }
}
