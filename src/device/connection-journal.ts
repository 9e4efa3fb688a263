/**
 * The connections that the guest may have, in memory that outlives this process (behind the queue regions of the inflight
 * file): whoever serves the guest next sends it a reset for each. An entry stays until the guest knows that its connection
 * is gone. Nothing here is on the path of a packet.
 */
import type { LostConnection } from "../vsock/switch.js";

const MAGIC = 0x62697433;
const VERSION = 2;
/** Words of the header: what it is, its version, how many entries there is room for, and whose they are. */
const AT = { magic: 0, version: 1, capacity: 2, owner: 3 } as const;
const HEADER_WORDS = 4;
/** Words of an entry. `type` (a `SocketType`) is 0 in one that is free. */
const ENTRY = { type: 0, hostPort: 1, guestPort: 2, farCid: 3 } as const;
const ENTRY_WORDS = 4;

/** A table has to have room for one connection at least. */
export const LEAST_TABLE_WORDS = HEADER_WORDS + ENTRY_WORDS;

/** Bytes for so many connections. */
export function journalBytes(connections: number): number {
  return 4 * (HEADER_WORDS + ENTRY_WORDS * connections);
}

export class ConnectionJournal {
  readonly #slots = new Map<string, number>();
  readonly #free: number[] = [];
  readonly #told: string[] = [];
  /** The entries that another owner has left. They stay, until the guest knows. */
  readonly lost: readonly LostConnection[];

  /** Takes over what is there, or begins anew if that is no journal of this size. No entry is away for a moment. */
  constructor(
    private readonly words: Uint32Array,
    owner: number,
  ) {
    const capacity = Math.floor((words.length - HEADER_WORDS) / ENTRY_WORDS);
    const isJournal =
      words[AT.magic] === MAGIC && words[AT.version] === VERSION && words[AT.capacity] === capacity;
    if (!isJournal) words.fill(0);
    const isOurs = words[AT.owner] === owner;
    words[AT.capacity] = capacity;
    words[AT.owner] = owner;
    words[AT.version] = VERSION;
    Atomics.store(words, AT.magic, MAGIC);
    const found: LostConnection[] = [];
    for (let slot = capacity - 1; slot >= 0; slot--) {
      const at = HEADER_WORDS + ENTRY_WORDS * slot;
      const type = words[at + ENTRY.type];
      if (type === 0) {
        this.#free.push(slot);
        continue;
      }
      const entry = {
        type,
        farCid: words[at + ENTRY.farCid],
        hostPort: words[at + ENTRY.hostPort],
        guestPort: words[at + ENTRY.guestPort],
      };
      this.#slots.set(keyOf(entry.farCid, entry.hostPort, entry.guestPort), slot);
      found.push(entry);
    }
    this.lost = isOurs ? [] : found;
  }

  /** Beyond its capacity a connection is not noted. */
  add(farCid: number, hostPort: number, guestPort: number, type: number): void {
    const key = keyOf(farCid, hostPort, guestPort);
    if (this.#slots.has(key)) return;
    const slot = this.#free.pop();
    if (slot === undefined) return;
    this.#slots.set(key, slot);
    const at = HEADER_WORDS + ENTRY_WORDS * slot;
    this.words[at + ENTRY.farCid] = farCid;
    this.words[at + ENTRY.hostPort] = hostPort;
    this.words[at + ENTRY.guestPort] = guestPort;
    // Last: a half-written entry is none.
    Atomics.store(this.words, at + ENTRY.type, type);
  }

  /** The guest knows. */
  remove(farCid: number, hostPort: number, guestPort: number): void {
    this.#removeKey(keyOf(farCid, hostPort, guestPort));
  }

  /** The guest will know once the buffers that were filled are published: `settle`. */
  told(farCid: number, hostPort: number, guestPort: number): void {
    this.#told.push(keyOf(farCid, hostPort, guestPort));
  }

  /** Asked at every burst: allocates nothing if nobody was told. */
  settle(): void {
    if (this.#told.length === 0) return;
    for (const key of this.#told.splice(0)) this.#removeKey(key);
  }

  clear(): void {
    for (const key of [...this.#slots.keys()]) this.#removeKey(key);
  }

  #removeKey(key: string): void {
    const slot = this.#slots.get(key);
    if (slot === undefined) return;
    Atomics.store(this.words, HEADER_WORDS + ENTRY_WORDS * slot + ENTRY.type, 0);
    this.#slots.delete(key);
    this.#free.push(slot);
  }
}

function keyOf(farCid: number, hostPort: number, guestPort: number): string {
  return `${farCid} ${hostPort} ${guestPort}`;
}
