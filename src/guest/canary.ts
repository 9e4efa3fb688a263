/**
 * Memory that is mapped for nobody, and descriptors that point at it all the same, by its guest-physical and by its
 * user address: what a driver can try that wants to know whether a vIOMMU confines the device. On the transmit ring
 * the page must not come out at the host, on the receive ring it must stay as it is. Must not know who translates.
 */
import { Access } from "../memory/address.js";
import type { GpaRange } from "../memory/watched-space.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";
import { DmaBuffer } from "./dma.js";
import type { GuestRam, RamBlock } from "./guest-ram.js";
import type { VsockDriver } from "./vsock-driver.js";

const PAGE_BYTES = 4096;
/** As long as a receive buffer of Linux, so that a device takes it for one. */
const BUFFER_BYTES = 3776;
const TEXT = "This page is mapped for nobody. ";

/**
 * By which of its addresses the page is tried first on the transmit ring; on the receive ring it is the other one. The
 * first may be where a ring ends, so who wants to know of each address on each ring tries both orders.
 */
export type CanaryOrder = "guest-physical-first" | "user-first";

/** What of the canary was touched. */
export interface CanaryOutcome {
  /** Its bytes arrived at the host. */
  readonly cameOut: boolean;
  /** It is not what it was. */
  readonly changed: boolean;
}

export class Canary {
  readonly range: GpaRange;
  readonly #block: RamBlock;
  readonly #header: RamBlock;
  readonly #headers: DmaBuffer[] = [];
  readonly #before: Buffer;

  constructor(
    private readonly ram: GuestRam,
    private readonly driver: VsockDriver,
    private readonly userAddressOf: (gpa: number) => number,
    private readonly order: CanaryOrder = "guest-physical-first",
  ) {
    this.#block = ram.allocate(2 * PAGE_BYTES);
    this.#header = ram.allocate(PAGE_BYTES);
    this.range = { gpa: this.#block.gpa, bytes: this.#block.bytes };
    this.#before = Buffer.alloc(this.#block.bytes, TEXT);
    ram.view(this.#block.gpa, this.#block.bytes).set(this.#before);
  }

  /** Two packets of a connection, or of none, whose payload is the first page. */
  postOnTransmit(localPort: number, hostPort: number, forwarded: number): void {
    const { driver, ram } = this;
    const queue = driver.queues[1];
    const header = new PacketHeader();
    header.srcCid = driver.cid;
    header.dstCid = HOST_CID;
    header.srcPort = localPort;
    header.dstPort = hostPort;
    header.len = PAGE_BYTES;
    header.type = SocketType.STREAM;
    header.op = Op.RW;
    header.bufAlloc = 256 * 1024;
    header.fwdCnt = forwarded;
    header.write(new DataView(ram.view(this.#header.gpa, HEADER_BYTES).buffer), 0);
    const page = this.#block.gpa;
    for (const address of this.#addresses(page)) {
      const { gpa, host } = this.#header;
      const buffer = new DmaBuffer(gpa, host, HEADER_BYTES, Access.READ);
      if (queue.ring.freeDescriptors < 2 || !driver.dma.map(buffer)) continue;
      this.#headers.push(buffer);
      queue.ring.begin();
      queue.ring.put(buffer.low, buffer.high, HEADER_BYTES, false);
      queue.ring.put(address >>> 0, Math.floor(address / 2 ** 32), PAGE_BYTES, false);
      queue.ring.commit();
    }
    queue.flush();
  }

  /** How many descriptors `postOnReceive` needs. */
  static readonly RECEIVE_BUFFERS = 2;

  /** Two receive buffers that are the second page. */
  postOnReceive(): void {
    const queue = this.driver.queues[0];
    const page = this.#block.gpa + PAGE_BYTES;
    for (const address of this.#addresses(page).reverse()) {
      if (queue.ring.freeDescriptors < 1) continue;
      queue.ring.begin();
      queue.ring.put(address >>> 0, Math.floor(address / 2 ** 32), BUFFER_BYTES, true);
      queue.ring.commit();
    }
    queue.flush();
  }

  #addresses(page: number): number[] {
    const addresses = [page, this.userAddressOf(page)];
    return this.order === "user-first" ? addresses.reverse() : addresses;
  }

  /** @param atHost everything that the host's program received */
  outcome(atHost: Buffer): CanaryOutcome {
    const now = this.ram.view(this.#block.gpa, this.#block.bytes);
    return { cameOut: atHost.includes(TEXT.repeat(4)), changed: !this.#before.equals(now) };
  }

  release(): void {
    for (const buffer of this.#headers) this.driver.dma.unmap(buffer);
    this.ram.free(this.#header);
    this.ram.free(this.#block);
  }
}
