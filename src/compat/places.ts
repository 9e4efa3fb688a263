/**
 * Names for addresses: which part of which ring one is, and which kind of address it really is when the device takes it
 * for another kind. Must not know what is allowed.
 */
import type { GuestRam } from "../guest/guest-ram.js";
import type { WatchedAccess } from "../memory/watched-space.js";
import { hex } from "../virtio/index.js";
import { availBytes, descBytes, usedBytes } from "../virtqueue/layout.js";
import type { GuestQueue } from "../vmm/player.js";
import type { Finding } from "./witness.js";

type Space = WatchedAccess["space"];

const SPACES: Readonly<Record<Space, string>> = {
  gpa: "guest-physical",
  uva: "user",
  iova: "I/O virtual",
};

interface Range {
  readonly name: string;
  readonly start: bigint;
  readonly bytes: number;
}

const isIn = (address: bigint, { start, bytes }: Range): boolean =>
  address >= start && address < start + BigInt(bytes);

export class Places {
  /** The guest's memory under the VMM's user addresses, and under its guest-physical ones. */
  readonly #memory: readonly (Range & { readonly space: Space })[];
  readonly #areas: Range[] = [];
  readonly #userOf: (gpa: number) => number;

  /** @param isIdentity I/O virtual addresses are the guest-physical ones */
  constructor(ram: GuestRam, userAddressOf: (gpa: number) => number, isIdentity: boolean) {
    this.#userOf = userAddressOf;
    const range = (space: Space, start: number, bytes: number) => [
      { space, name: "", start: BigInt(start), bytes },
    ];
    this.#memory = ram.slots.flatMap(({ gpa, bytes }) => [
      ...range("uva", userAddressOf(gpa), bytes),
      ...(isIdentity ? [] : range("gpa", gpa, bytes)),
    ]);
  }

  /** The rings, by the addresses that the driver tells and by what the VMM may make of them. */
  learn(queues: readonly GuestQueue[]): void {
    queues.forEach(({ size, addresses }, index) => {
      const areas = [
        ["descriptor table", addresses.desc, descBytes(size)],
        ["avail ring", addresses.avail, availBytes(size, true)],
        ["used ring", addresses.used, usedBytes(size, true)],
      ] as const;
      for (const [part, start, bytes] of areas) {
        const name = `the ${part} of queue ${index}`;
        this.#areas.push({ name, start, bytes });
        const user = this.#userOf(Number(start));
        if (user >= 0) this.#areas.push({ name, start: BigInt(user), bytes });
      }
    });
  }

  /** "the used ring of queue 0 at 0x… (a user address taken for an I/O virtual one)". */
  describe({ use, space, address }: Finding): string {
    const name = use === "ring" ? (this.#nameOf(address) ?? "a ring") : "a buffer";
    const really = this.#kindOf(address);
    return space === "iova" && really !== undefined
      ? `${name} at ${hex(address)} (a ${SPACES[really]} address taken for an I/O virtual one)`
      : `${name} at ${SPACES[space]} address ${hex(address)}`;
  }

  #nameOf(address: bigint): string | undefined {
    return this.#areas.find((area) => isIn(address, area))?.name;
  }

  #kindOf(address: bigint): Space | undefined {
    return this.#memory.find((range) => isIn(address, range))?.space;
  }

  /** A finding as a sentence whose subject is the device. */
  tell(finding: Finding): string {
    const place = this.describe(finding);
    const gpa = finding.leadsTo[0]?.gpa;
    const where = gpa === undefined || finding.space === "gpa" ? "" : `, guest-physical ${hex(gpa)}`;
    switch (finding.kind) {
      case "first-ring":
      case "first-buffer":
        return `reaches ${place}${where}, which the guest has given it`;
      case "private":
        return `touches ${place}${where}: private memory of the guest`;
      case "stale":
        return `reaches ${place} where that used to lead${where}; the guest has given the address to another page`;
      case "withheld":
        return `reaches ${place}${where}, which the vIOMMU does not map`;
      case "canary":
        return `reaches the canary, ${place}: a page that was never mapped`;
      case "missing":
        return `looks up ${place} in its IOTLB, where no mapping is`;
      case "nowhere":
        return `looks up ${place}, where nothing is`;
    }
  }
}
