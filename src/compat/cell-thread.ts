/**
 * The thread's side of `run-matrix.ts`: takes the number of a cell, runs it, sends back what came out. Must not know
 * how a cell is run; `cell-worker.ts` brings that along.
 */
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import type { Matrix, RunCell } from "./matrix.js";
import type { Cell } from "./record.js";

export type FromThread =
  | { readonly kind: "cell"; readonly index: number; readonly cell: Cell }
  /** `runCell` threw, which it never should. */
  | { readonly kind: "failed"; readonly index: number; readonly problem: string };

export interface ToThread {
  readonly index: number;
}

/** Which of the three a cell's number stands for: guests, VMMs, devices, the last fastest. */
export function partsAt({ guests, vmms, devices }: Matrix, index: number) {
  const [row, device] = [Math.floor(index / devices.length), index % devices.length];
  return {
    guest: guests[Math.floor(row / vmms.length)],
    vmm: vmms[row % vmms.length],
    device: devices[device],
  };
}

/** Serves the main thread until that ends this one. */
export function serveCells(runCell: RunCell): void {
  if (parentPort === null) throw new Error("this is the entry of a thread; run-matrix.ts starts it");
  const port: MessagePort = parentPort;
  const matrix = workerData as Matrix;
  port.on("message", ({ index }: ToThread) => {
    const { guest, vmm, device } = partsAt(matrix, index);
    // In a turn of its own, so that what `runCell` throws at once is told like what it rejects with.
    Promise.resolve()
      .then(() => runCell(guest, vmm, device))
      .then((cell) => port.postMessage({ kind: "cell", index, cell } satisfies FromThread))
      .catch((error: unknown) => {
        port.postMessage({ kind: "failed", index, problem: told(error) } satisfies FromThread);
      });
  });
}

/** With its stack, which is the one thing that helps. As text: not every error can be sent. */
export function told(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
