import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { descriptorIn, parseCall } from "./call.js";
import { parseLine } from "./syntax.js";

const OF_DAY_NS = 45_296_000_000_000n;

describe("a line of strace", () => {
  const heads = [
    ["close(3) = 0", undefined, undefined],
    ["117   close(3) = 0", 117, undefined],
    ["[pid   117] close(3) = 0", 117, undefined],
    ["[pid 117<qemu-system>] close(3) = 0", 117, undefined],
    ["117<qemu> close(3) = 0", 117, undefined],
    ["12:34:56 close(3) = 0", undefined, { kind: "of-day", ns: OF_DAY_NS }],
    ["117 12:34:56.000007 close(3) = 0", 117, { kind: "of-day", ns: OF_DAY_NS + 7_000n }],
    ["1795422603.123165 close(3) = 0", undefined, { kind: "epoch", ns: 1_795_422_603_123_165_000n }],
    ["[pid 9] 1795422603.123165 close(3) = 0", 9, { kind: "epoch", ns: 1_795_422_603_123_165_000n }],
    ["117        0.000123 close(3) = 0", 117, { kind: "since", ns: 123_000n }],
    ["     0.000123 close(3) = 0", undefined, { kind: "since", ns: 123_000n }],
    [
      "1795422603.1 (+     0.000016) close(3) = 0",
      undefined,
      { kind: "epoch", ns: 1_795_422_603_100_000_000n },
    ],
  ] as const;
  for (const [line, pid, time] of heads) {
    it(`says who and when: ${JSON.stringify(line)}`, () =>
      assert.deepEqual(parseLine(line), { pid, time, body: { kind: "call", text: "close(3) = 0" } }));
  }

  const bodies = [
    [
      "ioctl(3, VHOST_GET_VRING_BASE <unfinished ...>",
      { kind: "unfinished", name: "ioctl", text: "ioctl(3, VHOST_GET_VRING_BASE" },
    ],
    ["<... ioctl resumed>, 0x7f) = 0", { kind: "resumed", name: "ioctl", text: ", 0x7f) = 0" }],
    ["+++ exited with 0 +++", { kind: "gone" }],
    ["+++ killed by SIGKILL +++", { kind: "gone" }],
    ["+++ superseded by execve in pid 9 +++", { kind: "nothing" }],
    ["--- SIGCHLD {si_signo=SIGCHLD} ---", { kind: "nothing" }],
    ["strace: Process 118 attached", { kind: "attached", pid: 118 }],
    ["Process 118 detached", { kind: "nothing" }],
    ["", { kind: "nothing" }],
    [
      "0x7ffd10 <buf+8>:\t0x0000000300000000",
      { kind: "memory", address: 0x7ffd10n, bytes: Uint8Array.of(0, 0, 0, 0, 3, 0, 0, 0) },
    ],
    ["0x7ffd10:\t0x01 0x02", { kind: "memory", address: 0x7ffd10n, bytes: Uint8Array.of(1, 2) }],
    ["0x7ffd10 = [0x3]", { kind: "value", address: 0x7ffd10n, text: "[0x3]" }],
    ["$1 = 0x300000000", { kind: "value", address: undefined, text: "0x300000000" }],
    ["_resumed>, 0x7f) = 0 ioctl(", { kind: "damaged" }],
    ["qemu: warning: something", { kind: "foreign" }],
  ] as const;
  for (const [line, body] of bodies) {
    it(`is understood as ${body.kind}: ${JSON.stringify(line)}`, () =>
      assert.deepEqual(parseLine(line).body, body));
  }
});

describe("a call", () => {
  const result = { value: 0n, errno: undefined, text: "0", path: undefined, tookNs: undefined };

  it("is split at the commas between its arguments only", () => {
    const text = 'f(3<pipe:[1,2]>, "a,\\"b)", {x=1, y=[2, 3]}, A|B /* c, d */, 1<<2) = 0';
    const args = ["3<pipe:[1,2]>", '"a,\\"b)"', "{x=1, y=[2, 3]}", "A|B /* c, d */", "1<<2"];
    assert.deepEqual(parseCall(text), { name: "f", args, result });
  });

  const results = [
    ["= -1 EFAULT (Bad address)", { value: -1n, errno: "EFAULT", text: "-1 EFAULT (Bad address)" }],
    ["= -14", { value: -14n, errno: "EFAULT", text: "-14 EFAULT" }],
    ["= ?", { value: undefined, text: "?" }],
    [
      "= ? ERESTARTSYS (To be restarted if SA_RESTART is set)",
      { value: undefined, text: "? ERESTARTSYS (To be restarted if SA_RESTART is set)" },
    ],
    ["= 0 <0.000250>", { value: 0n, text: "0", tookNs: 250_000n }],
    ["= 3</dev/vhost-vsock>", { value: 3n, text: "3", path: "/dev/vhost-vsock" }],
    ["= 3<\\x2f\\x64\\x65\\x76> <0.1>", { value: 3n, text: "3", path: "/dev", tookNs: 100_000_000n }],
    ["= 0x10 (flags O_RDWR)", { value: 16n, text: "0x10 (flags O_RDWR)" }],
  ] as const;
  for (const [text, expected] of results) {
    it(`with the result ${JSON.stringify(text)}`, () =>
      assert.deepEqual(parseCall(`close(3) ${text}`)?.result, { ...result, ...expected }));
  }

  it("without an end or a result is none", () => {
    for (const text of ["ioctl(3, VHOST", 'read(3, "\\x01', "close(3)", "close(3) = ", "close(3) = x"])
      assert.equal(parseCall(text), undefined, text);
  });

  it("names a descriptor by its number, and with -y and -yy its file", () => {
    assert.deepEqual(descriptorIn("3"), { fd: 3, path: undefined });
    assert.deepEqual(descriptorIn("3</dev/vhost-net<char 10:238>>"), { fd: 3, path: "/dev/vhost-net" });
    assert.deepEqual(descriptorIn("4<anon_inode:[eventfd]>"), { fd: 4, path: "anon_inode:[eventfd]" });
    assert.equal(descriptorIn("AT_FDCWD"), undefined);
  });
});
