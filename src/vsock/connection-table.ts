/**
 * Connections by (host port, guest port). Looked up for every packet, so it must not allocate: a Map keyed by a
 * 32-bit mix of both ports, and a chain through the few connections that share a key.
 */

/** What the table stores: something with both ports and a link. */
export interface PortPair {
  readonly hostPort: number;
  readonly guestPort: number;
  /** The next connection of the same key; the table's own. */
  nextOfKey: PortPair | undefined;
}

function keyOf(hostPort: number, guestPort: number): number {
  return (Math.imul(hostPort, 0x9e3779b1) ^ guestPort) | 0;
}

export class ConnectionTable<Entry extends PortPair & { nextOfKey: Entry | undefined }> {
  size = 0;
  readonly #byKey = new Map<number, Entry>();

  find(hostPort: number, guestPort: number): Entry | undefined {
    let entry = this.#byKey.get(keyOf(hostPort, guestPort));
    while (entry !== undefined && (entry.hostPort !== hostPort || entry.guestPort !== guestPort))
      entry = entry.nextOfKey;
    return entry;
  }

  /** Adds an entry whose pair of ports is not in the table. */
  add(entry: Entry): void {
    const key = keyOf(entry.hostPort, entry.guestPort);
    entry.nextOfKey = this.#byKey.get(key);
    this.#byKey.set(key, entry);
    this.size++;
  }

  /** Removes an entry that is in the table. */
  remove(entry: Entry): void {
    const key = keyOf(entry.hostPort, entry.guestPort);
    const first = this.#byKey.get(key);
    if (first === entry) {
      if (entry.nextOfKey === undefined) this.#byKey.delete(key);
      else this.#byKey.set(key, entry.nextOfKey);
    } else {
      let before = first;
      while (before !== undefined && before.nextOfKey !== entry) before = before.nextOfKey;
      if (before === undefined) return;
      before.nextOfKey = entry.nextOfKey;
    }
    entry.nextOfKey = undefined;
    this.size--;
  }

  /** All entries, collected first: the caller may remove while it walks. */
  all(): Entry[] {
    const entries: Entry[] = [];
    for (const first of this.#byKey.values()) {
      for (let entry: Entry | undefined = first; entry !== undefined; entry = entry.nextOfKey)
        entries.push(entry);
    }
    return entries;
  }
}
