/**
 * The ways of DMA against one naive model of what mapping means: what the device finds at the bus address while a
 * buffer is mapped, what the driver finds in the buffer afterwards, and that no address serves two masters.
 */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { Access } from "../memory/address.js";
import { DMA_KINDS, DmaBuffer, type DmaKind } from "./dma.js";
import { PoolMapper } from "./dma-pool.js";
import { ViommuMapper } from "./dma-viommu.js";
import { GuestRam } from "./guest-ram.js";
import { createPlatform, type Platform, type PlatformOptions } from "./platform.js";

const PAGE = 4096;
const opened: Platform[] = [];
after(() => {
  for (const { ram } of opened) ram.close();
});

function platform(options: PlatformOptions): Platform {
  const made = createPlatform({ slots: [{ gpa: 0, bytes: 4 * 2 ** 20 }], poolBytes: 2 ** 20, ...options });
  opened.push(made);
  return made;
}

/** What a device sees: bus address to guest-physical, page by page through the vIOMMU if there is one. */
function deviceAddress({ kind, viommu }: Platform, bus: bigint): number {
  if (kind !== "viommu") return Number(bus);
  const page = viommu?.translations.lookup(bus);
  assert.ok(page !== undefined, `0x${bus.toString(16)} is mapped`);
  return page.gpa + Number(bus % BigInt(PAGE));
}

function deviceBytes(machine: Platform, bus: bigint, bytes: number): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes; ) {
    const address = bus + BigInt(at);
    const length = Math.min(bytes - at, PAGE - Number(address % BigInt(PAGE)));
    pieces.push(machine.ram.view(deviceAddress(machine, address), length));
    at += length;
  }
  return pieces;
}

const request = fc.record({
  offset: fc.integer({ min: 0, max: 5 * PAGE }),
  bytes: fc.integer({ min: 1, max: 3 * PAGE }),
  toDevice: fc.boolean(),
  fill: fc.integer({ min: 1, max: 255 }),
  unmapFirst: fc.nat({ max: 3 }),
});

function behavesLikeDma(kind: DmaKind, options: Partial<PlatformOptions> = {}): void {
  const machine = platform({ kind, ...options });
  const { mapper, ram } = machine;
  fc.assert(
    fc.property(fc.array(request, { maxLength: 25 }), (requests) => {
      const live: { buffer: DmaBuffer; expected: number; block: ReturnType<GuestRam["allocate"]> }[] = [];
      const unmapOldest = () => {
        const { buffer, expected, block } = live.splice(0, 1)[0];
        mapper.unmap(buffer);
        assert.ok(
          ram.view(buffer.gpa, buffer.bytes).every((byte) => byte === expected),
          "the driver finds what it wrote, or what the device did",
        );
        ram.free(block);
      };
      for (const { offset, bytes, toDevice, fill, unmapFirst } of requests) {
        for (let i = 0; i < unmapFirst && live.length > 0; i++) unmapOldest();
        const block = ram.allocate(offset + bytes);
        const access = toDevice ? Access.READ : Access.WRITE;
        const buffer = new DmaBuffer(block.gpa + offset, block.host + offset, bytes, access);
        ram.view(buffer.gpa, bytes).fill(fill);
        assert.ok(mapper.map(buffer));
        mapper.assertReachable(buffer.low, buffer.high, bytes);
        const seen = deviceBytes(machine, buffer.busAddress, bytes);
        const isFilled = seen.every((piece) => piece.every((byte) => byte === fill));
        assert.ok(isFilled, "the device finds what the driver wrote");
        const written = (fill % 255) + 1;
        if (!toDevice) for (const piece of seen) piece.fill(written);
        live.push({ buffer, expected: toDevice ? fill : written, block });
      }
      while (live.length > 0) unmapOldest();
    }),
    { numRuns: 60 },
  );
}

describe("every way of DMA", () => {
  for (const kind of DMA_KINDS)
    it(`shows the device the buffer, and the driver what the device wrote: ${kind}`, () =>
      behavesLikeDma(kind));
  it("does so with lazy unmapping", () => behavesLikeDma("viommu", { unmapping: "lazy" }));
  it("does so with addresses from the top of the 64-bit space", () =>
    behavesLikeDma("viommu", { topOf64Bits: true }));
  it("does so when there are few addresses", () =>
    behavesLikeDma("viommu", { spanPages: 512, unmapping: "lazy" }));
});

describe("a vIOMMU", () => {
  const bufferOn = ({ ram }: Platform, bytes = 100): DmaBuffer => {
    const { gpa, host } = ram.allocate(bytes);
    return new DmaBuffer(gpa, host, bytes, Access.READ);
  };
  const viommuOf = ({ mapper }: Platform): ViommuMapper => {
    assert.ok(mapper instanceof ViommuMapper);
    return mapper;
  };

  it("hands out addresses from below 4 GiB down, none of them guest-physical", () => {
    const machine = platform({ kind: "viommu" });
    const buffer = bufferOn(machine);
    viommuOf(machine).map(buffer);
    assert.equal(buffer.busAddress, 0xfffff000n);
  });

  it("hands out the very last page of the 64-bit space if told to", () => {
    const machine = platform({ kind: "viommu", topOf64Bits: true });
    const buffer = bufferOn(machine);
    viommuOf(machine).map(buffer);
    assert.equal(buffer.busAddress, 0xffff_ffff_ffff_f000n);
  });

  it("gives each mapping of the same page an address of its own", () => {
    const machine = platform({ kind: "viommu" });
    const first = bufferOn(machine);
    const second = new DmaBuffer(first.gpa + 64, first.host + 64, 36, Access.READ);
    viommuOf(machine).map(first);
    viommuOf(machine).map(second);
    assert.notEqual(first.busAddress >> 12n, second.busAddress >> 12n);
    assert.equal(second.busAddress % 4096n, 64n);
  });

  it("maps with the access that was asked for and no more", () => {
    const machine = platform({ kind: "viommu" });
    const buffer = bufferOn(machine);
    viommuOf(machine).map(buffer);
    assert.equal(machine.viommu?.translations.lookup(buffer.busAddress)?.access, Access.READ);
  });

  it("in strict mode invalidates before the address is used again", () => {
    const machine = platform({ kind: "viommu" });
    const events: string[] = [];
    machine.viommu?.onInvalidate((iova, bytes) => {
      assert.equal(machine.viommu?.translations.lookup(iova), undefined);
      events.push(`${iova.toString(16)}+${bytes}`);
    });
    const buffer = bufferOn(machine, 5000);
    viommuOf(machine).map(buffer);
    const { busAddress } = buffer;
    viommuOf(machine).unmap(buffer);
    assert.deepEqual(events, [`${busAddress.toString(16)}+8192`]);
    viommuOf(machine).map(buffer);
    assert.equal(buffer.busAddress, busAddress);
  });

  it("in lazy mode keeps an address from being used again until everything was invalidated", () => {
    const machine = platform({ kind: "viommu", unmapping: "lazy" });
    const ranges: bigint[] = [];
    machine.viommu?.onInvalidate((_iova, bytes) => ranges.push(bytes));
    const buffer = bufferOn(machine);
    viommuOf(machine).map(buffer);
    const { busAddress } = buffer;
    viommuOf(machine).unmap(buffer);
    viommuOf(machine).map(buffer);
    assert.notEqual(buffer.busAddress, busAddress);
    assert.deepEqual(ranges, []);
    viommuOf(machine).flush();
    assert.equal(
      ranges.reduce((sum, bytes) => sum + bytes, 0n),
      1n << 64n,
    );
    viommuOf(machine).map(bufferOn(machine));
    assert.ok(viommuOf(machine).table.isMapped(Number(busAddress >> 12n)), "the address is in use again");
  });
});

describe("a shared pool", () => {
  it("gives out addresses of the pool only", () => {
    const ram = new GuestRam({ slots: [{ gpa: 2 ** 32, bytes: 2 ** 20 }] });
    const mapper = new PoolMapper(ram, "restricted", { poolBytes: 64 * 1024 });
    const { gpa, host } = ram.allocate(9000);
    const buffer = new DmaBuffer(gpa, host, 9000, Access.READ);
    assert.ok(mapper.map(buffer));
    const address = Number(buffer.busAddress);
    assert.ok(address >= mapper.pool.gpa && address + 9000 <= mapper.pool.gpa + mapper.pool.bytes);
    assert.throws(() => mapper.assertReachable(gpa % 2 ** 32, 1, 9000), /outside of the shared pool/);
    ram.close();
  });

  it("says when it is full, and takes more once something was unmapped", () => {
    const ram = new GuestRam({ slots: [{ gpa: 0, bytes: 2 ** 20 }] });
    const mapper = new PoolMapper(ram, "restricted", { poolBytes: 8192 });
    const buffers = Array.from({ length: 3 }, () => {
      const { gpa, host } = ram.allocate(4096);
      return new DmaBuffer(gpa, host, 4096, Access.WRITE);
    });
    assert.deepEqual(
      buffers.map((buffer) => mapper.map(buffer)),
      [true, true, false],
    );
    mapper.unmap(buffers[0]);
    assert.ok(mapper.map(buffers[2]));
    ram.close();
  });
});
