/**
 * The guests of one thread that may reach each other by CID: those with a group in common. Their devices share the
 * thread, so that one thread alone touches the memory of both. Must not know how traffic between them goes.
 */
import type { VsockSwitch } from "./switch.js";

interface Member {
  readonly groups: readonly string[];
  readonly vsock: VsockSwitch;
}

export class Neighbours {
  readonly #members = new Map<number, Member>();

  join(cid: number, groups: readonly string[], vsock: VsockSwitch): void {
    this.#members.set(cid, { groups, vsock });
  }

  leave(cid: number): void {
    this.#members.delete(cid);
  }

  /** Whether two guests of this thread are siblings. A guest is none of its own. */
  areSiblings(cid: number, other: number): boolean {
    const [one, two] = [this.#members.get(cid), this.#members.get(other)];
    return one !== two && one?.groups.some((name) => two?.groups.includes(name)) === true;
  }

  /** The switch of a guest's sibling, or undefined if it has none with that CID. */
  sibling(of: number, cid: number): VsockSwitch | undefined {
    return this.areSiblings(of, cid) ? this.#members.get(cid)?.vsock : undefined;
  }
}
