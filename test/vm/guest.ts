/**
 * The program in the guest, seen from outside: commands as promises, over the line protocol that guest/agent.c
 * describes. Must not know what carries the lines, nor what a command is good for.
 */
import { within } from "./waiting.js";

/** One running command in the guest. */
export interface Job {
  id: string;
  /** Resolves when a server command accepts connections. */
  listening: Promise<void>;
  /** The detail of RESULT ok; rejects with the detail of RESULT fail. */
  result: Promise<string>;
  log: string[];
}

interface Pending extends Job {
  command: string;
  notice: () => void;
  succeed: (detail: string) => void;
  fail: (error: Error) => void;
}

export class GuestError extends Error {}

export class Guest {
  readonly #write: (line: string) => void;
  readonly #jobs = new Map<string, Pending>();
  #lastId = 0;
  #boots = 0;
  #release = "";
  #onBoot: (() => void) | undefined;

  constructor(write: (line: string) => void) {
    this.#write = write;
  }

  /** How often the guest has come up. */
  get boots(): number {
    return this.#boots;
  }

  get release(): string {
    return this.#release;
  }

  /** Waits until the guest has come up as often as this. */
  async booted(times: number): Promise<void> {
    while (this.#boots < times) {
      await within(
        new Promise<void>((resolve) => {
          this.#onBoot = resolve;
        }),
        `boot ${times} of the guest`,
      );
    }
  }

  /** One line from the guest. */
  read(line: string): void {
    const [kind, id, ...rest] = line.trim().split(" ");
    if (kind === "READY") this.#ready(id ?? "");
    const job = this.#jobs.get(id ?? "");
    if (job === undefined) return;
    if (kind === "NOTE") job.notice();
    if (kind === "LOG") job.log.push(rest.join(" "));
    if (kind === "RESULT") {
      this.#jobs.delete(job.id);
      const detail = rest.slice(1).join(" ");
      if (rest[0] === "ok") job.succeed(detail);
      else job.fail(new GuestError(`in the guest, ${job.command}: ${detail}`));
    }
  }

  #ready(release: string): void {
    this.#boots++;
    this.#release = release;
    this.failAll(new GuestError("the guest has started again"));
    this.#onBoot?.();
  }

  /** Ends every wait for a guest that is no longer the same, or no longer there. */
  failAll(error: Error): void {
    for (const job of this.#jobs.values()) job.fail(error);
    this.#jobs.clear();
  }

  /** Starts a command and lets it run. */
  start(...words: (string | number)[]): Job {
    const id = `j${++this.#lastId}`;
    const command = words.join(" ");
    let notice = (): void => {};
    let succeed = (_detail: string): void => {};
    let fail = (_error: Error): void => {};
    const result = new Promise<string>((resolve, reject) => {
      succeed = resolve;
      fail = reject;
    });
    const listening = new Promise<void>((resolve, reject) => {
      notice = resolve;
      // A server that ends before it listens says why.
      result.catch(reject);
    });
    // Whoever does not wait for one of the two must not be told by an unhandled rejection.
    result.catch(() => {});
    listening.catch(() => {});
    const job: Pending = { id, command, log: [], listening, result, notice, succeed, fail };
    this.#jobs.set(id, job);
    this.#write(`${id} ${command}`);
    return job;
  }

  /** Runs a command to its end. */
  async run(...words: (string | number)[]): Promise<string> {
    return this.finish(this.start(...words));
  }

  async finish(job: Job): Promise<string> {
    return within(job.result, `in the guest, ${(job as Pending).command}`);
  }

  /** Starts a server command and waits until it accepts connections. */
  async serve(...words: (string | number)[]): Promise<Job> {
    const job = this.start(...words);
    await within(job.listening, `in the guest, ${words.join(" ")}`);
    return job;
  }

  /** Kills a command as `kill -9` does, and waits until it is gone. */
  async kill(job: Job): Promise<void> {
    await this.run("kill", job.id);
    await within(
      job.result.catch(() => ""),
      `the end of ${job.id} in the guest`,
    );
  }

  /** The lines of a file in the guest, or of another command that answers with lines. */
  async lines(...words: (string | number)[]): Promise<string[]> {
    const job = this.start(...words);
    await this.finish(job);
    return job.log;
  }
}
