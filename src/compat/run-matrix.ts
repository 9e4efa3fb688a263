/**
 * Runs a matrix over a few threads, one cell at a time each, and puts the cells into their order. A thread that dies,
 * throws or never comes back is an error that names its cell: a cell may be bad, but none is ever missing.
 * Must not know how a cell is run (cell-thread.ts is the other side).
 */
import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import { type FromThread, partsAt, type ToThread, told } from "./cell-thread.js";
import type { Matrix, RunOptions } from "./matrix.js";
import { type Cell, cellName } from "./record.js";

/** More do not help: the cells are short, and each thread loads the whole program. */
const MOST_THREADS = 4;

/** Our choice. A cell takes milliseconds, on a clock of its own; one that takes this long is in an endless loop. */
const CELL_LIMIT_MS = 60_000;

/** We are wrong: a cell could not be run to its end. */
export class CellFailure extends Error {
  override readonly name = "CellFailure";

  constructor(
    /** `guest/vmm/device`. */
    readonly cell: string,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(`the cell ${cell} could not be run: ${problem}`, options);
  }
}

export interface PoolOptions extends RunOptions {
  /** The entry of a thread; it calls `serveCells`. */
  readonly entry?: URL;
  readonly cellLimitMs?: number;
}

export function defaultThreads(): number {
  return Math.min(availableParallelism(), MOST_THREADS);
}

/** Implements `RunMatrix`. */
export async function runMatrix(matrix: Matrix, options: PoolOptions = {}): Promise<readonly Cell[]> {
  const pool = new Pool(matrix, options);
  try {
    return await pool.run();
  } finally {
    await pool.close();
  }
}

class Pool {
  readonly #matrix: Matrix;
  readonly #options: PoolOptions;
  readonly #workers: Worker[] = [];
  readonly #cells: Cell[];
  readonly #total: number;
  #done = 0;
  /** The first that no thread has taken yet. */
  #next = 0;

  constructor(matrix: Matrix, options: PoolOptions) {
    this.#matrix = matrix;
    this.#options = options;
    this.#total = matrix.guests.length * matrix.vmms.length * matrix.devices.length;
    this.#cells = new Array(this.#total);
  }

  async run(): Promise<readonly Cell[]> {
    const threads = Math.min(this.#options.threads ?? defaultThreads(), this.#total);
    await Promise.all(Array.from({ length: threads }, () => this.#thread()));
    return this.#cells;
  }

  async close(): Promise<void> {
    await Promise.all(this.#workers.map((worker) => worker.terminate()));
  }

  /** Starts a thread and gives it cells until there are none left. */
  #thread(): Promise<void> {
    const worker = new Worker(this.#options.entry ?? new URL("./cell-worker.js", import.meta.url), {
      workerData: this.#matrix,
      // A cell closes descriptors that came over sockets; Node would warn of each.
      trackUnmanagedFds: false,
    });
    this.#workers.push(worker);
    return new Promise((resolve, reject) => {
      let current = -1;
      let limit: NodeJS.Timeout | undefined;
      const fail = (problem: string, cause?: unknown) => {
        clearTimeout(limit);
        reject(new CellFailure(this.#nameOf(current), problem, { cause }));
      };
      const give = () => {
        clearTimeout(limit);
        if (this.#next === this.#total) return resolve();
        current = this.#next++;
        worker.postMessage({ index: current } satisfies ToThread);
        const limitMs = this.#options.cellLimitMs ?? CELL_LIMIT_MS;
        limit = setTimeout(() => fail(`it did not end within ${limitMs / 1000} s`), limitMs);
      };
      worker.on("message", (message: FromThread) => {
        if (message.kind === "failed") return fail(message.problem);
        this.#cells[message.index] = message.cell;
        this.#done++;
        this.#options.progress?.(this.#done, this.#total);
        give();
      });
      worker.on("messageerror", (error) => fail("its result could not be read", error));
      worker.on("error", (error) => fail(`its thread died: ${told(error)}`, error));
      worker.on("exit", (code) => fail(`its thread ended with status ${code}`));
      give();
    });
  }

  #nameOf(index: number): string {
    const { guest, vmm, device } = partsAt(this.#matrix, index);
    return cellName({ guest: guest.name, vmm: vmm.name, device: device.name });
  }
}
