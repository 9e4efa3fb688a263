import assert from "node:assert/strict";
import { closeSync, ftruncateSync, readdirSync, readFileSync } from "node:fs";
import { describe, it } from "node:test";
import fc from "fast-check";
import { errno } from "./errors.js";
import { IovecList, MOST_IOVECS } from "./iovec.js";
import {
  copyMemory,
  createMemfd,
  filePageBytes,
  fileProblem,
  LONGEST_VIEW_BYTES,
  mapAnonymous,
  mapShared,
  PAGE_BYTES,
  park,
  roundUp,
  unmap,
  view,
} from "./mapping.js";
import { sendMessage } from "./message-socket.js";
import { Scratch } from "./scratch.js";
import { setSendBuffer, socketPair } from "./unix-socket.js";

function mappings(): number {
  return readFileSync("/proc/self/maps", "utf8").split("\n").length;
}

describe("shared mappings", () => {
  it("of one memfd show the same bytes", () => {
    const fd = createMemfd("test", 2 * PAGE_BYTES);
    const [one, other] = [mapShared(fd, 0, 2 * PAGE_BYTES), mapShared(fd, PAGE_BYTES, PAGE_BYTES)];
    new Uint8Array(view(one, 2 * PAGE_BYTES))[PAGE_BYTES + 7] = 42;
    assert.equal(new Uint8Array(view(other, PAGE_BYTES))[7], 42);
    park(one, 2 * PAGE_BYTES);
    park(other, PAGE_BYTES);
    closeSync(fd);
  });

  it("that were parked read as zeros through old views, and their range is used again", () => {
    const fd = createMemfd("test", PAGE_BYTES);
    const address = mapShared(fd, 0, PAGE_BYTES);
    const stale = new Uint8Array(view(address, PAGE_BYTES));
    stale[0] = 1;
    park(address, PAGE_BYTES);
    assert.equal(stale[0], 0);
    stale[0] = 99;
    const again = mapShared(fd, 0, PAGE_BYTES);
    assert.equal(
      new Uint8Array(view(again, PAGE_BYTES))[0],
      1,
      "a write through a stale view reached the file",
    );
    park(again, PAGE_BYTES);
    closeSync(fd);
  });

  it("come and go ten thousand times without using up address space or descriptors", () => {
    const lengths = [PAGE_BYTES, 16 * PAGE_BYTES, 2 ** 21];
    const fd = createMemfd("test", 2 ** 21);
    const cycle = (count: number) => {
      for (let index = 0; index < count; index++) {
        const length = lengths[index % lengths.length];
        park(mapShared(fd, 0, length), length);
      }
    };
    cycle(10);
    const before = mappings();
    const fdsBefore = readdirSync("/proc/self/fd").length;
    cycle(10_000);
    // V8 maps something of its own now and then.
    assert.ok(mappings() <= before + 20, `${before} mappings became ${mappings()}`);
    assert.equal(readdirSync("/proc/self/fd").length, fdsBefore);
    closeSync(fd);
  });

  it("that fail leave the parked range usable", () => {
    const fd = createMemfd("test", PAGE_BYTES);
    const length = 5 * PAGE_BYTES;
    park(mapShared(fd, 0, length), length);
    assert.throws(() => mapShared(-1, 0, length), { code: "EBADF" });
    assert.throws(() => mapShared(fd, 1, length), { code: "EINVAL" });
    const address = mapShared(fd, 0, length);
    assert.equal(new Uint8Array(view(address, PAGE_BYTES))[0], 0);
    park(address, length);
    closeSync(fd);
  });

  it("of a file that is too short are told before, and whether it can still shrink", () => {
    const sealed = createMemfd("sealed", 100);
    const open = createMemfd("open", 100, { sealShrink: false });
    assert.deepEqual(fileProblem(sealed, 100), { problem: undefined, sealed: true });
    assert.match(fileProblem(sealed, 101).problem ?? "", /100 bytes long and the region ends at byte 101/);
    assert.equal(fileProblem(open, 100).sealed, false);
    ftruncateSync(open, 50);
    assert.match(fileProblem(open, 100).problem ?? "", /50 bytes/);
    assert.throws(() => ftruncateSync(sealed, 50), { code: "EPERM" });
    assert.equal(filePageBytes(sealed), PAGE_BYTES);
    closeSync(sealed);
    closeSync(open);
  });

  it("leave no descriptor behind when the file cannot be made", () => {
    const before = readdirSync("/proc/self/fd").length;
    assert.throws(() => createMemfd("test", -1), { code: "EINVAL" });
    assert.equal(readdirSync("/proc/self/fd").length, before);
  });
});

describe("anonymous memory", () => {
  it("is zeroed, can be copied and unmapped", () => {
    const [from, to] = [mapAnonymous(PAGE_BYTES), mapAnonymous(PAGE_BYTES)];
    const bytes = new Uint8Array(view(from, PAGE_BYTES));
    assert.ok(bytes.every((byte) => byte === 0));
    bytes.fill(7);
    copyMemory(to + 10, from, 100);
    const copied = new Uint8Array(view(to, PAGE_BYTES));
    assert.deepEqual([copied[9], copied[10], copied[109], copied[110]], [0, 7, 7, 0]);
    unmap(mapAnonymous(PAGE_BYTES), PAGE_BYTES);
  });

  it("is viewed in windows of at most the longest length", () => {
    assert.ok(LONGEST_VIEW_BYTES < 2 ** 32);
    assert.equal(roundUp(1, 4096), 4096);
    assert.equal(roundUp(4096, 4096), 4096);
    assert.equal(roundUp(2 ** 40 + 1, 4096), 2 ** 40 + 4096);
  });
});

describe("lists of iovecs", () => {
  it("give back addresses and lengths, also above 4 GiB, and their sum", () => {
    const entry = fc.tuple(
      fc.integer({ min: 0, max: 2 ** 47 - 1 }),
      fc.integer({ min: 0, max: 2 ** 32 - 1 }),
    );
    fc.assert(
      fc.property(fc.array(entry, { maxLength: 20 }), (entries) => {
        const list = new IovecList(20);
        for (const [address, length] of entries) list.push(address, length);
        assert.equal(list.count, entries.length);
        assert.equal(list.isFull, entries.length === 20);
        assert.equal(
          list.totalBytes,
          entries.reduce((sum, [, length]) => sum + length, 0),
        );
        for (const [index, [address, length]] of entries.entries()) {
          assert.deepEqual([list.address(index), list.length(index)], [address, length]);
        }
        list.clear();
        assert.deepEqual([list.count, list.totalBytes], [0, 0]);
      }),
    );
  });

  it("move bytes between sockets in as many pieces as the kernel allows, and say what failed", () => {
    const [a, b] = socketPair();
    setSendBuffer(a, 2 ** 20);
    const memory = new Scratch(2 * MOST_IOVECS);
    const list = new IovecList();
    for (let index = 0; index < MOST_IOVECS; index++) {
      memory.bytes[index] = index & 0xff;
      list.push(memory.address + index, 1);
    }
    assert.equal(list.writeTo(a), MOST_IOVECS);
    list.clear();
    for (let index = 0; index < MOST_IOVECS; index++)
      list.push(memory.address + 2 * MOST_IOVECS - 1 - index, 1);
    assert.equal(list.readFrom(b), MOST_IOVECS);
    for (let index = 0; index < MOST_IOVECS; index++) {
      assert.equal(memory.bytes[2 * MOST_IOVECS - 1 - index], index & 0xff);
    }
    assert.equal(list.readFrom(b), -errno.EAGAIN);
    closeSync(a);
    assert.equal(list.readFrom(b), 0);
    assert.equal(list.writeTo(b), -errno.EPIPE);
    closeSync(b);
  });

  it("receive from a socket as they read, and say where descriptors ended it", () => {
    const [a, b] = socketPair();
    const memory = new Scratch(16);
    const list = new IovecList(3);
    list.push(memory.address + 8, 4);
    list.push(memory.address, 4);
    const received = (): string | number => {
      memory.bytes.fill(0x2e);
      const result = list.receiveFrom(b);
      return result < 0
        ? result
        : `${result} ${Buffer.from(memory.bytes.subarray(0, 16))} ${list.endedAtDescriptors}`;
    };
    const bytes = Buffer.from("abcdef");
    sendMessage(a, bytes);
    assert.equal(received(), "6 ef......abcd.... false");
    sendMessage(a, bytes, [a, b]);
    sendMessage(a, Buffer.from("gh"));
    const before = readdirSync("/proc/self/fd").length;
    assert.equal(received(), "6 ef......abcd.... true");
    assert.equal(received(), "2 ........gh...... false");
    assert.equal(readdirSync("/proc/self/fd").length, before, "a descriptor came in");
    assert.equal(received(), -errno.EAGAIN);
    closeSync(a);
    assert.equal(received(), "0 ................ false");
    closeSync(b);
  });
});
