/**
 * The user's front-end as a child: a shell command in a process group of its own, ended as a group, its last line of
 * standard error kept as what it has to say. Must not know what it is or what it talks to.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

/** How long a front-end may take to end after SIGTERM. */
const GRACE_MS = 5000;

const running = new Set<FrontEndProcess>();
// However this process ends, its children end with it.
process.on("exit", () => {
  for (const each of running) each.signal("SIGKILL");
});

export class FrontEndProcess {
  /** The last line on standard error that is not empty. */
  lastLine: string | undefined;
  /** How it ended, in words; undefined while it runs. */
  end: string | undefined;
  readonly #child: ChildProcess;
  readonly #closed: Promise<void>;

  constructor(command: string) {
    // A group of its own: what the shell starts can be ended with it.
    this.#child = spawn(command, { shell: true, detached: true, stdio: ["ignore", "ignore", "pipe"] });
    running.add(this);
    if (this.#child.stderr !== null) {
      createInterface({ input: this.#child.stderr }).on("line", (line) => {
        if (line.trim() !== "") this.lastLine = line.trim();
      });
    }
    this.#closed = new Promise((resolve) => {
      const finish = (how: string): void => {
        this.end ??= how;
        resolve();
      };
      this.#child.on("error", (error) => finish(error.message));
      // "exit" alone: a grandchild that holds standard error open does not keep anybody waiting.
      this.#child.on("exit", (code, signal) => {
        setTimeout(() => finish(signal ?? `exit status ${code}`), 20);
      });
    });
  }

  /** To the whole group, if any of it is left. */
  signal(signal: "SIGTERM" | "SIGKILL"): void {
    if (this.#child.pid === undefined) return;
    try {
      process.kill(-this.#child.pid, signal);
    } catch {
      // ESRCH: nobody is left.
    }
  }

  /** Ends the group: asks, insists, and makes sure of those that the shell has left behind. */
  async stop(): Promise<void> {
    this.signal("SIGTERM");
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, GRACE_MS);
    });
    await Promise.race([this.#closed, patience]);
    clearTimeout(timer);
    this.signal("SIGKILL");
    await this.#closed;
    running.delete(this);
  }
}
