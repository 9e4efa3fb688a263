/**
 * Guest memory for a conformance case: regions where the case wants them, blocks in it, and the address by which the
 * device is told of a block (guest-physical, or I/O virtual behind a vIOMMU). Must not know rings or packets.
 */
import { GuestRam, type GuestRamOptions, type RamBlock } from "../guest/guest-ram.js";
import type { SharedRegion } from "../vhost/front-end-session.js";
import { IOTLB_PERM } from "../vhost/wire/index.js";
import { UserAddresses } from "../vmm/user-addresses.js";
import type { Evidence } from "./evidence.js";
import { IoDomain } from "./io-domain.js";

/** Memory of the guest that a case works with. */
export interface Block {
  readonly gpa: number;
  /** Where this process sees it. */
  readonly host: number;
  readonly bytes: number;
  /** What the device is told. */
  readonly bus: bigint;
  readonly view: Uint8Array;
}

export interface TestMemoryOptions extends GuestRamOptions {
  readonly translated?: boolean;
}

export class TestMemory {
  readonly ram: GuestRam;
  readonly users: UserAddresses;
  /** The vIOMMU; undefined where addresses are guest-physical. */
  readonly domain: IoDomain | undefined;
  readonly #blocks = new Map<number, RamBlock>();

  constructor(options: TestMemoryOptions, evidence: Evidence) {
    this.ram = new GuestRam(options);
    this.users = new UserAddresses(this.ram.slots);
    const userOf = (gpa: number): number => this.users.ofGpa(gpa);
    this.domain = options.translated === true ? new IoDomain(userOf, evidence) : undefined;
  }

  /** Zeroed pages, mapped for the device if there is a vIOMMU. */
  allocate(bytes: number, perm: number = IOTLB_PERM.readWrite): Block {
    const ramBlock = this.ram.allocate(bytes);
    this.#blocks.set(ramBlock.gpa, ramBlock);
    const block = this.at(ramBlock.gpa, bytes, perm);
    block.view.fill(0);
    return block;
  }

  /** Memory at a place of the case's choice, whoever else uses it. */
  at(gpa: number, bytes: number, perm: number = IOTLB_PERM.readWrite): Block {
    const bus = this.domain?.map(gpa, bytes, perm) ?? BigInt(gpa);
    return { gpa, host: this.ram.hostOf(gpa), bytes, bus, view: this.ram.view(gpa, bytes) };
  }

  free({ gpa }: Block): void {
    const ramBlock = this.#blocks.get(gpa);
    if (ramBlock === undefined) return;
    this.#blocks.delete(gpa);
    this.ram.free(ramBlock);
  }

  /** What a memory table says, or ADD_MEM_REG one by one. */
  regions(): SharedRegion[] {
    return this.users.regions(this.ram.fd);
  }

  userOf(gpa: number): bigint {
    return BigInt(this.users.ofGpa(gpa));
  }

  close(): void {
    this.ram.close();
  }
}
