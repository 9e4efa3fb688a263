/**
 * Watches what the device touches, and judges each range by what the guest shared and mapped at that moment. Private
 * memory is denied, as a hypervisor denies it; behind a vIOMMU the access goes on, as it would with a real device that
 * goes around it. Must not know verdicts: findings are facts.
 */
import type { IoPageTable } from "../guest/io-page-table.js";
import { type Access, Outcome } from "../memory/address.js";
import type { AccessWatcher, GpaRange, WatchedAccess } from "../memory/watched-space.js";
import { hex } from "../virtio/index.js";

/** What a guest lets its device reach. */
export type Confinement =
  /** No vIOMMU, or one whose domain is an identity. */
  | { readonly kind: "everything" }
  /** One shared pool; all else is private. */
  | { readonly kind: "pool"; readonly gpa: number; readonly bytes: number }
  /** What is mapped now, for the accesses that it is mapped for. */
  | { readonly kind: "mappings"; readonly table: IoPageTable }
  /** A driver that maps nothing. */
  | { readonly kind: "nothing" };

export type FindingKind =
  /** The first of its kind that was as it should be. */
  | "first-ring"
  | "first-buffer"
  /** Led to memory that is private; denied. */
  | "private"
  /** By an address that the guest has given to another page meanwhile. */
  | "stale"
  /** Led to memory that the vIOMMU does not map. */
  | "withheld"
  /** Led to the canary page, which was never mapped. */
  | "canary"
  /** Nothing was there: an address that is not mapped (yet), and one that leads nowhere. */
  | "missing"
  | "nowhere";

/** Something about one access. */
export interface Finding {
  readonly kind: FindingKind;
  readonly use: WatchedAccess["use"];
  readonly space: WatchedAccess["space"];
  readonly address: bigint;
  readonly bytes: number;
  readonly access: Access;
  /** Where it led. */
  readonly leadsTo: readonly GpaRange[];
}

const PAGE_BYTES = 4096;

export class Witness implements AccessWatcher {
  /** How often each kind was found. */
  readonly counts = new Map<FindingKind, number>();
  /** The first of each kind. */
  readonly first = new Map<FindingKind, Finding>();
  /** Pages that were asked for and never resolved since, by their number, in the order of asking. */
  readonly missing = new Map<bigint, Finding>();
  /** A page that is mapped for nobody. */
  canary: GpaRange | undefined;

  constructor(
    private readonly confinement: Confinement,
    /** Hears of the first of each kind, as it happens. */
    private readonly tell: (finding: Finding) => void,
  ) {}

  count(kind: FindingKind): number {
    return this.counts.get(kind) ?? 0;
  }

  accessed(access: WatchedAccess): string | undefined {
    for (const page of pagesOf(access)) this.missing.delete(page);
    const kind = this.#judge(access);
    this.#note({ kind, ...access });
    if (kind !== "private") return undefined;
    const at = hex(access.leadsTo[0]?.gpa ?? 0);
    return `guest-physical ${at} is private memory of the guest, which the hypervisor keeps from the host`;
  }

  withheld(asked: Omit<WatchedAccess, "leadsTo">, outcome: Outcome): void {
    const finding: Finding = {
      kind: outcome === Outcome.MISS ? "missing" : "nowhere",
      ...asked,
      leadsTo: [],
    };
    if (outcome === Outcome.MISS)
      for (const page of pagesOf(asked)) if (!this.missing.has(page)) this.missing.set(page, finding);
    this.#note(finding);
  }

  #note(finding: Finding): void {
    const { kind } = finding;
    const count = this.count(kind);
    this.counts.set(kind, count + 1);
    if (count > 0) return;
    this.first.set(kind, finding);
    this.tell(finding);
  }

  #judge(access: WatchedAccess): FindingKind {
    if (access.leadsTo.some((range) => this.#isCanary(range))) return "canary";
    const fine = access.use === "ring" ? "first-ring" : "first-buffer";
    const { confinement } = this;
    switch (confinement.kind) {
      case "everything":
        return fine;
      case "nothing":
        return "withheld";
      case "pool": {
        const { gpa, bytes } = confinement;
        return access.leadsTo.every((r) => r.gpa >= gpa && r.gpa + r.bytes <= gpa + bytes) ? fine : "private";
      }
      case "mappings":
        return this.#judgeMapped(access, confinement.table) ?? fine;
    }
  }

  /** Page by page: does the guest's table lead there, now, for this access? */
  #judgeMapped(access: WatchedAccess, table: IoPageTable): "stale" | "withheld" | undefined {
    let address = access.address;
    for (const range of access.leadsTo) {
      for (let done = 0; done < range.bytes; ) {
        const gpa = range.gpa + done;
        const taken = Math.min(PAGE_BYTES - (gpa % PAGE_BYTES), range.bytes - done);
        if (access.space !== "iova") {
          if (!table.reaches(gpa, access.access)) return "withheld";
        } else {
          const page = table.lookup(address);
          if (page === undefined || (page.access & access.access) !== access.access) return "withheld";
          if (page.gpa !== gpa - (gpa % PAGE_BYTES)) return "stale";
        }
        done += taken;
        address += BigInt(taken);
      }
    }
    return undefined;
  }

  #isCanary({ gpa, bytes }: GpaRange): boolean {
    const { canary } = this;
    return canary !== undefined && gpa < canary.gpa + canary.bytes && canary.gpa < gpa + bytes;
  }
}

/** The pages of a range, as far as an honest one reaches: a corrupt descriptor may name gigabytes. */
const MOST_PAGES = 32;

function pagesOf({ address, bytes }: { readonly address: bigint; readonly bytes: number }): bigint[] {
  const first = address >> 12n;
  const count = Math.ceil((Number(address & 0xfffn) + Math.max(bytes, 1)) / PAGE_BYTES);
  return Array.from({ length: Math.min(count, MOST_PAGES) }, (_, i) => first + BigInt(i));
}
