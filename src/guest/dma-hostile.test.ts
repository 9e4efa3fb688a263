import assert from "node:assert/strict";
import { test } from "node:test";
import { Access } from "../memory/address.js";
import { DmaBuffer } from "./dma.js";
import { HostileMapper } from "./dma-hostile.js";
import { GuestRam } from "./guest-ram.js";

test("a hostile driver names its rings by user addresses and its buffers by guest-physical ones, and maps nothing", () => {
  const ram = new GuestRam({ slots: [{ gpa: 2 ** 32, bytes: 2 ** 20 }] });
  const userBase = 0x7e55_0000_0000;
  const mapper = new HostileMapper(ram, (gpa) => userBase + (gpa - 2 ** 32));
  const ring = mapper.allocateCoherent(4096);
  assert.equal(ring.bus, BigInt(userBase + (ring.gpa - 2 ** 32)));
  assert.equal(ring.host, ram.hostOf(ring.gpa));
  const block = ram.allocate(4096);
  const buffer = new DmaBuffer(block.gpa, block.host, 64, Access.READ);
  assert.ok(mapper.map(buffer));
  assert.equal(buffer.busAddress, BigInt(block.gpa));
  mapper.unmap();
  mapper.freeCoherent(ring);
  assert.throws(() => mapper.freeCoherent(ring), /not memory of this mapper/);
  ram.close();
});
