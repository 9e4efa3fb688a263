/** A thread that claims socket paths while others do; for the tests of `claim-socket.ts`. */
import { parentPort, workerData } from "node:worker_threads";
import { claimSocket } from "./claim-socket.js";
import { StartError } from "./config/errors.js";

export interface Contender {
  readonly paths: readonly string[];
}

export interface Contest {
  /** Of each path: "claimed", or the code of the error. */
  readonly outcomes: readonly string[];
  /** The listening sockets of what was claimed; they are the receiver's. */
  readonly fds: readonly number[];
}

const fds: number[] = [];

function claim(path: string): string {
  try {
    fds.push(claimSocket(path).fd);
    return "claimed";
  } catch (error) {
    return error instanceof StartError ? error.code : String(error);
  }
}

const outcomes = (workerData as Contender).paths.map(claim);
const contest: Contest = { outcomes, fds };
parentPort?.postMessage(contest);
