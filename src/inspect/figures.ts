/** What an inspection counts: messages each way, and how long each kind of request waited for its answer. Judges nothing. */
import type { SessionMessage } from "./message.js";

/** More kinds of requests than there are: a peer that invents numbers fills no memory. */
const MOST_NAMES = 256;

export interface WaitFigures {
  readonly name: string;
  count: number;
  totalNs: bigint;
  slowestNs: bigint;
}

export class Figures {
  toBackend = 0;
  toFrontend = 0;
  onChannel = 0;
  bytes = 0;
  descriptors = 0;
  readonly #waits = new Map<string, WaitFigures>();

  get waits(): readonly WaitFigures[] {
    return [...this.#waits.values()];
  }

  take(message: SessionMessage, waitedNs: bigint | undefined): void {
    if (message.channel === "backend") this.onChannel++;
    else if (message.direction === "to-backend") this.toBackend++;
    else this.toFrontend++;
    this.bytes += message.byteLength;
    this.descriptors += message.descriptorCount;
    // How long a system call took, not every trace says.
    if (waitedNs === 0n && message.systemCall !== undefined) return;
    if (waitedNs === undefined || (this.#waits.size >= MOST_NAMES && !this.#waits.has(message.name))) return;
    const wait = this.#waits.get(message.name) ?? {
      name: message.name,
      count: 0,
      totalNs: 0n,
      slowestNs: 0n,
    };
    this.#waits.set(message.name, wait);
    wait.count++;
    wait.totalNs += waitedNs;
    if (waitedNs > wait.slowestNs) wait.slowestNs = waitedNs;
  }
}
