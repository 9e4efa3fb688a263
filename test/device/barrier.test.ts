/**
 * The barrier: once INVALIDATE is answered, no system call of the device touches the page any more. Pages are taken
 * away from under a running transfer and overwritten straight after the answer; what was in them, or is moved to
 * another page, must arrive all the same, and what they are overwritten with must never.
 */

import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { describe, it } from "node:test";
import type { GuestConnection } from "../../src/guest/connection.js";
import type { DmaBuffer } from "../../src/guest/dma.js";
import { ViommuMapper } from "../../src/guest/dma-viommu.js";
import type { RamBlock } from "../../src/guest/guest-ram.js";
import { Access } from "../../src/memory/address.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertSame, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const PORT = 1024;
const PAGE = 4096;
const POISON = 0xee;
const BYTES = 1_500_000;

/** Bytes of which none is the poison. */
function clean(bytes: number): Buffer {
  const data = noise(bytes);
  for (let i = 0; i < bytes; i++) if (data[i] === POISON) data[i] = 0;
  return data;
}

/** Reads a little now and then, so that the device always has some of it waiting. */
async function readSlowly(host: Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let ended = false;
  for (const event of ["end", "close"]) {
    host.once(event, () => {
      ended = true;
    });
  }
  while (!ended) {
    const chunk: Buffer | null = host.read(Math.min(20_000, host.readableLength)) ?? host.read();
    if (chunk !== null) chunks.push(chunk);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return Buffer.concat(chunks);
}

async function withGuest(
  kind: "viommu" | "direct",
  use: (rig: Rig, machine: VirtualMachine) => Promise<void>,
): Promise<void> {
  const rig = await Rig.start();
  try {
    await use(rig, rig.boot({ kind, platform: { slots: [{ gpa: 0, bytes: 128 * 2 ** 20 }] } }));
  } finally {
    await rig.close();
  }
}

async function connect(rig: Rig, machine: VirtualMachine): Promise<{ guest: GuestConnection; host: Socket }> {
  const listener = await rig.listen(PORT);
  const guest = await machine.driver.connect(PORT);
  const host = await listener.accept();
  listener.close();
  return { guest, host };
}

/** Keeps account of what the driver has mapped. */
function watchMappings(machine: VirtualMachine, unmapped: (buffer: DmaBuffer) => void): Set<DmaBuffer> {
  const { mapper } = machine.platform;
  const live = new Set<DmaBuffer>();
  const map = mapper.map.bind(mapper);
  const unmap = mapper.unmap.bind(mapper);
  mapper.map = (buffer) => {
    const isMapped = map(buffer);
    if (isMapped) live.add(buffer);
    return isMapped;
  };
  mapper.unmap = (buffer) => {
    live.delete(buffer);
    unmap(buffer);
    unmapped(buffer);
  };
  return live;
}

describe("the barrier of INVALIDATE", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const kind of ["viommu", "direct"] as const) {
    it(`a slow reader never sees what a returned buffer is overwritten with: ${kind}`, () =>
      withGuest(kind, async (rig, machine) => {
        watchMappings(machine, ({ gpa, bytes, access }) => {
          if (access === Access.READ) machine.platform.ram.view(gpa, bytes).fill(POISON);
        });
        const { guest, host } = await connect(rig, machine);
        const data = clean(BYTES);
        const sent = guest.write(data).then(() => guest.shutdown(2));
        assertSame(await readSlowly(host), data, "what the slow reader got");
        await sent;
        host.end();
        await guest.close();
      }));
  }

  it("a page that moves while its buffer is with the device is read where it is now", () =>
    withGuest("viommu", async (rig, machine) => {
      const mover = new PageMover(machine);
      const { guest, host } = await connect(rig, machine);
      const data = clean(BYTES);
      const sent = guest.write(data).then(() => guest.shutdown(2));
      // At once after each write, before the device has had the time to read it all.
      machine.loop.afterEvents(() => mover.moveSome(4, Access.READ));
      assertSame(await readSlowly(host), data, "what arrived while pages moved");
      assert.ok(mover.moved > 10, `${mover.moved} pages moved`);
      await sent;
      host.end();
      await guest.close();
    }));

  it("a page that was taken away is not written to any more", () =>
    withGuest("viommu", async (rig, machine) => {
      const mover = new PageMover(machine);
      const listener = machine.driver.listen(2048);
      const [host, guest] = await Promise.all([rig.connect(2048), listener.accept()]);
      const data = clean(BYTES);
      host.end(data);
      const chunks: Uint8Array[] = [];
      for (let chunk = await guest.read(); chunk !== undefined; chunk = await guest.read()) {
        chunks.push(chunk);
        // Buffers that the device is about to fill.
        if (chunks.length % 8 === 0) mover.moveSome(3, Access.WRITE);
        mover.assertUntouched();
      }
      assertSame(Buffer.concat(chunks), data, "what arrived while pages moved");
      assert.ok(mover.moved > 50, `${mover.moved} pages moved`);
      await guest.close();
    }));
});

/** Moves pages of mapped buffers to other memory, as an operating system may, with the device looking. */
class PageMover {
  moved = 0;
  readonly #machine: VirtualMachine;
  readonly #table: ViommuMapper["table"];
  readonly #live: ReadonlySet<DmaBuffer>;
  /** Pages that were left behind, poisoned, and where their content is now. */
  readonly #left = new Map<number, RamBlock>();

  constructor(machine: VirtualMachine) {
    const { mapper } = machine.platform;
    assert.ok(mapper instanceof ViommuMapper);
    this.#machine = machine;
    this.#table = mapper.table;
    this.#live = watchMappings(machine, (buffer) => this.#bringHome(homeOf(buffer)));
  }

  /** Moves the first pages of up to `count` large buffers that the device may access so. */
  moveSome(count: number, access: Access): void {
    let left = count;
    for (const buffer of this.#live) {
      // Small ones share their pages with others, which the driver may be writing.
      if (buffer.access !== access || buffer.bytes < 2048 || this.#left.has(homeOf(buffer))) continue;
      this.#move(homeOf(buffer));
      if (--left === 0) return;
    }
  }

  #move(home: number): void {
    const { ram } = this.#machine.platform;
    const { iotlb } = this.#machine.frontEnd;
    const pages = this.#ioPagesOf(home);
    for (const { page } of pages) {
      this.#table.unmap(page, 1);
      iotlb?.invalidate(BigInt(page) << 12n, BigInt(PAGE));
    }
    // From here on the device does not touch the page.
    const elsewhere = ram.allocate(PAGE);
    ram.view(elsewhere.gpa, PAGE).set(ram.view(home, PAGE));
    ram.view(home, PAGE).fill(POISON);
    this.#left.set(home, elsewhere);
    for (const { page, access } of pages) {
      this.#table.map(page, 1, elsewhere.gpa, access);
      // A question that came in between found nothing mapped and is not asked again soon.
      iotlb?.miss({ iova: BigInt(page) << 12n, perm: access });
    }
    this.moved++;
  }

  /** Under which I/O pages the device knows a page of memory: header and payload are mapped apart. */
  #ioPagesOf(home: number): { page: number; access: Access }[] {
    const found: { page: number; access: Access }[] = [];
    for (const buffer of this.#live) {
      const index = (home - homeOf(buffer)) / PAGE;
      if (index < 0 || home >= buffer.gpa + buffer.bytes) continue;
      const firstPage = buffer.high * 2 ** 20 + Math.floor(buffer.low / PAGE);
      found.push({ page: firstPage + index, access: buffer.access });
    }
    return found;
  }

  /** The driver has a buffer back: its content returns to where the driver expects it. */
  #bringHome(home: number): void {
    const away = this.#left.get(home);
    if (away === undefined) return;
    this.assertUntouched();
    const { ram } = this.#machine.platform;
    ram.view(home, PAGE).set(ram.view(away.gpa, PAGE));
    ram.free(away);
    this.#left.delete(home);
  }

  /** Nothing was written to any page since it was taken away. */
  assertUntouched(): void {
    for (const home of this.#left.keys()) {
      const page = this.#machine.platform.ram.view(home, PAGE);
      assert.ok(
        page.every((byte) => byte === POISON),
        `page 0x${home.toString(16)} was written to`,
      );
    }
  }
}

function homeOf({ gpa }: DmaBuffer): number {
  return gpa - (gpa % PAGE);
}
