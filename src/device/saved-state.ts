/**
 * What of a vsock device outlives it (snapshot, migration): as JSON, so that another version can say what it does not
 * understand. Connections end with the device that they went through, and are listed only so that the guest hears of
 * each; listeners are the guest's and the host's own. Must not know how it is moved.
 */
import type { LostConnection } from "../vsock/switch.js";

export interface SavedState {
  readonly guestCid: number;
  /** Ports given to host programs go on from here, so that none is one that the guest still has. */
  readonly nextPort: number;
  readonly connections: readonly LostConnection[];
}

const FORMAT = "bit33-vsock";
const VERSION = 2;
const MOST_U32 = 2 ** 32 - 1;

export function encodeState({ guestCid, nextPort, connections }: SavedState): Uint8Array {
  const rows = connections.map(({ farCid, hostPort, guestPort, type }) => [
    hostPort,
    guestPort,
    type,
    farCid,
  ]);
  const state = { format: FORMAT, version: VERSION, guestCid, nextPort, connections: rows };
  return new TextEncoder().encode(JSON.stringify(state));
}

/** The state, or why the bytes are none. They come from wherever a VMM kept them: nothing is taken for granted. */
export function decodeState(bytes: Uint8Array): SavedState | string {
  let state: unknown;
  try {
    state = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    return `it is not JSON: ${(error as Error).message}`;
  }
  if (!isRecord(state) || state.format !== FORMAT) return "it is not the state of a bit33 vsock device";
  if (state.version !== VERSION)
    return `it has version ${String(state.version)}, and this program knows ${VERSION}`;
  const { guestCid, nextPort, connections } = state;
  if (!isU32(guestCid) || !isU32(nextPort) || !Array.isArray(connections))
    return "a field is missing or malformed";
  const rows: LostConnection[] = [];
  for (const row of connections as unknown[]) {
    if (!Array.isArray(row) || row.length !== 4 || !row.every(isU32))
      return "a connection in it is malformed";
    const [hostPort, guestPort, type, farCid] = row as number[];
    rows.push({ farCid, hostPort, guestPort, type });
  }
  return { guestCid, nextPort, connections: rows };
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isU32(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MOST_U32;
}
