/**
 * Whose descriptor is which open vhost device: tables of descriptors by process, shared by threads, copied by fork. Only
 * vhost devices are kept. Must not know requests; what happens to a device is told to whoever made this.
 */

/** An open vhost device: what all descriptors made from one open() have in common. */
export interface OpenDevice {
  readonly path: string;
  /** Descriptors of all tables that lead to it. */
  references: number;
}

interface Slot<D extends OpenDevice> {
  readonly device: D;
  readonly closesOnExec: boolean;
}

interface Table<D extends OpenDevice> {
  readonly slots: Map<number, Slot<D>>;
  /** Processes and threads that share it. */
  users: number;
}

export class Processes<D extends OpenDevice> {
  readonly #tables = new Map<number, Table<D>>();
  /** The process that strace wrote no pid of, once it has told. */
  #first: number | undefined;

  /** @param released called when the last descriptor of a device is gone */
  constructor(readonly released: (device: D) => void) {}

  /** The process of a line: one without a pid is the only one there is, or the first. */
  pidOf(pid: number | undefined): number {
    if (pid !== undefined) return pid;
    const [only] = this.#tables.size === 1 ? this.#tables.keys() : [];
    return only ?? this.#first ?? UNNAMED;
  }

  get isEmpty(): boolean {
    return this.#tables.size === 0;
  }

  isKnown(pid: number): boolean {
    return this.#tables.has(pid);
  }

  /** A pid that no line has explained: if a process had no name until now, this is its. */
  meet(pid: number): void {
    if (this.#tables.has(pid)) return;
    const unnamed = this.#tables.get(UNNAMED);
    if (unnamed === undefined || pid === UNNAMED) {
      this.#tables.set(pid, { slots: new Map(), users: 1 });
      return;
    }
    this.#first = pid;
    this.#tables.delete(UNNAMED);
    this.#tables.set(pid, unnamed);
  }

  /** A new thread or process. Nothing if it is known already. */
  cloned(parent: number, child: number, sharesFiles: boolean): void {
    const known = this.#tables.get(child);
    if (known !== undefined && known.slots.size > 0) return;
    this.meet(parent);
    const table = this.#tables.get(parent);
    if (table === undefined) return;
    if (sharesFiles) {
      table.users++;
      this.#tables.set(child, table);
      return;
    }
    for (const { device } of table.slots.values()) device.references++;
    this.#tables.set(child, { slots: new Map(table.slots), users: 1 });
  }

  exited(pid: number): void {
    const table = this.#tables.get(pid);
    if (table === undefined) return;
    this.#tables.delete(pid);
    table.users--;
    if (table.users > 0) return;
    for (const fd of [...table.slots.keys()]) this.#drop(table, fd);
  }

  executed(pid: number): void {
    const table = this.#tables.get(pid);
    if (table === undefined) return;
    for (const [fd, { closesOnExec }] of [...table.slots]) if (closesOnExec) this.#drop(table, fd);
  }

  find(pid: number, fd: number): D | undefined {
    return this.#tables.get(pid)?.slots.get(fd)?.device;
  }

  /** What was there before is gone: a number is given anew only once it is free. */
  put(pid: number, fd: number, device: D, closesOnExec: boolean): void {
    this.meet(pid);
    const table = this.#tables.get(pid);
    if (table === undefined) return;
    device.references++;
    this.#drop(table, fd);
    table.slots.set(fd, { device, closesOnExec });
  }

  /** Both ends belong to the range. */
  closed(pid: number, first: number, last: number): void {
    const table = this.#tables.get(pid);
    if (table === undefined) return;
    for (const fd of [...table.slots.keys()]) if (fd >= first && fd <= last) this.#drop(table, fd);
  }

  /** A process that was announced, and of which nothing else is known yet. */
  announced(pid: number): void {
    if (!this.#tables.has(pid)) this.#tables.set(pid, { slots: new Map(), users: 1 });
  }

  /**
   * Somebody of whom nothing is known uses a number that leads to a device elsewhere: taken for a thread of that process.
   * Undefined if nobody has that number, or several have it for different devices.
   */
  join(pid: number, fd: number): D | undefined {
    const [only, ...others] = new Set([...this.#tables.values()].filter(({ slots }) => slots.has(fd)));
    const known = this.#tables.get(pid);
    if (only === undefined || others.length > 0 || (known !== undefined && known.slots.size > 0))
      return undefined;
    only.users++;
    this.#tables.set(pid, only);
    return only.slots.get(fd)?.device;
  }

  #drop(table: Table<D>, fd: number): void {
    const slot = table.slots.get(fd);
    if (slot === undefined) return;
    table.slots.delete(fd);
    slot.device.references--;
    if (slot.device.references === 0) this.released(slot.device);
  }
}

/** No process has it. */
const UNNAMED = 0;
