/**
 * The guest of a cell: its memory, the way its DMA works, what it acknowledges, and its driver. Knows the VMM's user
 * addresses only as far as a hostile driver does. Must not know what is found out about the device.
 */
import { HostileMapper } from "../guest/dma-hostile.js";
import { PoolMapper } from "../guest/dma-pool.js";
import { ViommuMapper } from "../guest/dma-viommu.js";
import { acknowledge } from "../guest/features.js";
import type { GuestRam } from "../guest/guest-ram.js";
import { createPlatform, type Platform, type Viommu } from "../guest/platform.js";
import { VsockDriver } from "../guest/vsock-driver.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { GuestProfile } from "../profiles/guest-profile.js";
import { F, has } from "../virtio/index.js";
import { UserAddresses } from "../vmm/user-addresses.js";
import type { Chronicle } from "./chronicle.js";
import type { Confinement } from "./witness.js";

/** Small, so that rings wrap and a cell is cheap. */
export const QUEUE_SIZE = 16;
/** Two slots with a hole, as in a PC: guest-physical, user and I/O virtual addresses never look alike. */
const SLOTS = [
  { gpa: 0, bytes: 2 ** 19 },
  { gpa: 2 ** 32, bytes: 5 * 2 ** 19 },
];
const POOL_BYTES = 2 ** 19;
/** I/O virtual pages: little more than are mapped at once, so that lazy unmapping has to flush, and addresses return. */
const SPAN_PAGES = 80;

export class GuestSide {
  acknowledged = 0n;
  /** Its driver runs; from now on what it takes back is worth a note. */
  talks = false;
  readonly #profile: GuestProfile;
  readonly #loop: EventLoop;
  readonly #platform: Platform;
  readonly #users: UserAddresses;

  constructor(profile: GuestProfile, loop: EventLoop) {
    this.#profile = profile;
    this.#loop = loop;
    const { dma: kind, unmapping } = profile;
    const sizes = { slots: SLOTS, poolBytes: POOL_BYTES, spanPages: SPAN_PAGES };
    this.#platform = createPlatform({ kind, unmapping, ...sizes });
    this.#users = new UserAddresses(this.#platform.ram.slots);
  }

  get ram(): GuestRam {
    return this.#platform.ram;
  }

  /** It acknowledged bit 33. */
  get has33(): boolean {
    return has(this.acknowledged, F.ACCESS_PLATFORM);
  }

  /** The VMM's user address of a guest-physical one. */
  readonly userAddressOf = (gpa: number): number => this.#users.ofGpa(gpa);

  /** What it lets its device reach. */
  get confinement(): Confinement {
    const { mapper } = this.#platform;
    if (this.#profile.hostile !== undefined) return { kind: "nothing" };
    if (mapper instanceof ViommuMapper) return { kind: "mappings", table: mapper.table };
    if (mapper instanceof PoolMapper) return { kind: "pool", gpa: mapper.pool.gpa, bytes: mapper.pool.bytes };
    return { kind: "everything" };
  }

  /** Its vIOMMU, with a note of the first time that something is taken back while it talks. */
  viommu(chronicle: Chronicle): Viommu | undefined {
    const { viommu } = this.#platform;
    if (viommu === undefined) return undefined;
    let isNoted = false;
    return {
      translations: viommu.translations,
      onInvalidate: (invalidate) =>
        viommu.onInvalidate((iova, bytes, reach) => {
          const at = chronicle.notes.length;
          const before = chronicle.invalidates;
          invalidate(iova, bytes, reach);
          if (isNoted || !this.talks) return;
          isNoted = true;
          const what = reach === "pages" ? "a mapping" : "all that it has unmapped up to now, in one flush";
          const isTold = chronicle.invalidates > before;
          const text = `takes back ${what}; the VMM tells the device${isTold ? "" : " nothing of it"}`;
          chronicle.insert(at, "guest", "message", text, isTold ? "invalidate-told" : "invalidate-lost");
        }),
    };
  }

  /** Acknowledges what it takes of the offer; if it refuses the device, returns why. */
  choose(offered: bigint): string | undefined {
    const choice = acknowledge(this.#profile, offered);
    if (!choice.ok) return choice.reason;
    this.acknowledged = choice.acknowledged;
    return undefined;
  }

  /** The driver, ready to be told to the VMM. */
  boot(cid: number): VsockDriver {
    const isHostile = this.#profile.hostile !== undefined;
    return new VsockDriver({
      platform: this.#platform,
      loop: this.#loop,
      features: this.acknowledged,
      readCid: () => cid,
      queueSize: QUEUE_SIZE,
      ...(isHostile ? { dma: new HostileMapper(this.ram, this.userAddressOf) } : {}),
    });
  }

  close(): void {
    this.ram.close();
  }
}
