import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, it } from "node:test";
import { EventLoop } from "../linux/event-loop.js";
import { F, maskOf } from "../virtio/index.js";
import { Canary } from "./canary.js";
import { createPlatform, type Platform } from "./platform.js";
import { VsockDriver } from "./vsock-driver.js";

const USER = 0x7e55_0000_0000;

describe("a canary", () => {
  let loop: EventLoop;
  let platform: Platform;
  let driver: VsockDriver;
  let canary: Canary;

  beforeEach(() => {
    loop = new EventLoop();
    platform = createPlatform({ kind: "viommu", slots: [{ gpa: 2 ** 32, bytes: 4 * 2 ** 20 }] });
    const features = maskOf(F.VERSION_1, F.ACCESS_PLATFORM);
    driver = new VsockDriver({ platform, loop, features, readCid: () => 3, queueSize: 16 });
    canary = new Canary(platform.ram, driver, (gpa) => USER + (gpa - 2 ** 32));
  });

  afterEach(() => {
    canary.release();
    driver.release();
    loop.close();
    platform.ram.close();
  });

  it("points a packet's payload at its page, by guest-physical and by user address", () => {
    const { ring, memory } = driver.queues[1];
    canary.postOnTransmit(1024, 5000, 0);
    assert.equal(ring.inFlight, 2);
    // Each is a header that is mapped, and a page that is not; the descriptor table is where the ring begins.
    const table = new DataView(platform.ram.view(memory.gpa, 64).buffer);
    const addresses = [1, 3].map((index) => table.getBigUint64(16 * index, true));
    const page = BigInt(canary.range.gpa);
    assert.deepEqual(addresses, [page, BigInt(USER) + page - (1n << 32n)]);
    assert.equal(platform.viommu?.translations.lookup(page), undefined);
  });

  it("tries its addresses in the other order, too", () => {
    const other = new Canary(platform.ram, driver, (gpa) => USER + (gpa - 2 ** 32), "user-first");
    const { memory } = driver.queues[1];
    other.postOnTransmit(1024, 5000, 0);
    const table = new DataView(platform.ram.view(memory.gpa, 64).buffer);
    const page = BigInt(other.range.gpa);
    const addresses = [1, 3].map((index) => table.getBigUint64(16 * index, true));
    assert.deepEqual(addresses, [BigInt(USER) + page - (1n << 32n), page]);
    other.release();
  });

  it("offers its other page as a receive buffer, unless the ring is full", () => {
    canary.postOnReceive();
    assert.equal(driver.queues[0].ring.inFlight, Canary.RECEIVE_BUFFERS);
    driver.start();
    canary.postOnReceive();
    assert.equal(driver.queues[0].ring.freeDescriptors, 0);
  });

  it("knows whether it came out at the host, and whether it was written to", () => {
    const page = platform.ram.view(canary.range.gpa, 4096);
    assert.deepEqual(canary.outcome(Buffer.alloc(0)), { cameOut: false, changed: false });
    assert.deepEqual(canary.outcome(Buffer.from(page)), { cameOut: true, changed: false });
    page[77] ^= 1;
    assert.deepEqual(canary.outcome(Buffer.alloc(9)), { cameOut: false, changed: true });
  });
});
