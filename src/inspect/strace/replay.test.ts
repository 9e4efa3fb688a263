/** Which descriptor is which device, and what is said of what cannot be known: traces written by hand, a line a fact. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { Inspection } from "../inspection.js";
import type { SessionModel } from "../model/session-model.js";
import { TraceError } from "./error.js";
import { replayTrace } from "./replay.js";

const folder = mkdtempSync(join(tmpdir(), "b33-trace-"));
after(() => rmSync(folder, { recursive: true }));

interface Seen {
  readonly model: SessionModel;
  readonly session: number;
  readonly lines: string[];
  readonly notes: string[];
  readonly findings: string[];
  end: string | undefined;
}

/** What an inspection makes of a trace. */
function inspected(...lines: readonly string[]): { readonly sessions: Seen[]; readonly places: string[] } {
  const path = join(folder, "t.strace");
  writeFileSync(path, lines.map((line) => `${line}\n`).join(""));
  const sessions: Seen[] = [];
  const places: string[] = [];
  const of = ({ start }: { readonly start: { readonly session: number } }): Seen =>
    sessions.find(({ session }) => session === start.session) ?? assert.fail("a session that never began");
  const inspection = new Inspection({
    begun: ({ start, model }) =>
      sessions.push({ model, session: start.session, lines: [], notes: [], findings: [], end: undefined }),
    observed: (session, { line, findings }) => {
      of(session).lines.push(line);
      of(session).findings.push(...findings.map(({ lint }) => lint));
    },
    found: (session, findings) => of(session).findings.push(...findings.map(({ lint }) => lint)),
    packet: () => assert.fail("a trace has no packets"),
    remarked: (session, { text }) => of(session).notes.push(text),
    ended: (session) => {
      of(session).end = session.end?.reason;
    },
  });
  replayTrace(path, {
    begun: (start) => inspection.begun(start),
    message: (session, message) => inspection.message(session, message),
    remark: (session, remark) => inspection.remark(session, remark),
    ended: (session, end) => inspection.ended(session, end),
    note: (place, text) => places.push(`${place.replace(path, "FILE")}: ${text}`),
  });
  return { sessions, places };
}

function counts(...lines: readonly string[]): number[] {
  return inspected(...lines).sessions.map(({ lines: shown }) => shown.length / 2);
}

const open = (fd: number, path = "/dev/vhost-vsock"): string => `openat(AT_FDCWD, "${path}", O_RDWR) = ${fd}`;
const call = (fd: number, request = "VHOST_RESET_OWNER, 0"): string => `ioctl(${fd}, ${request}) = 0`;
const OWNER = "VHOST_SET_OWNER, 0";

/** struct vhost_msg_v2 with an UPDATE of the page at 0x1000. */
const UPDATE = Buffer.alloc(72);
UPDATE[0] = 2;
UPDATE.writeBigUInt64LE(0x1000n, 8);
UPDATE.writeBigUInt64LE(0x1000n, 16);
UPDATE.writeBigUInt64LE(0x7f00_0000n, 24);
UPDATE.set([3, 2], 32);
const MISS = Buffer.from(UPDATE);
MISS.set([1, 1], 32);

function quoted(bytes: Uint8Array, shown = bytes.byteLength): string {
  const text = [...bytes.subarray(0, shown)]
    .map((byte) => `\\x${byte.toString(16).padStart(2, "0")}`)
    .join("");
  return `"${text}"${shown < bytes.byteLength ? "..." : ""}`;
}

describe("a descriptor of a vhost device in a trace", () => {
  it("is followed from its open to its close, and its number may then be another device", () => {
    const { sessions } = inspected(open(3), call(3), "close(3) = 0", open(3), call(3), call(3));
    assert.deepEqual(
      sessions.map(({ lines, end }) => [lines.length, end]),
      [
        [2, "the front-end closed the device"],
        [4, "the trace ends here"],
      ],
    );
  });

  it("is closed unseen when its number is given to something else", () => {
    assert.deepEqual(counts(open(3), call(3), open(3), call(3)), [1, 1]);
    const { sessions } = inspected(
      open(3),
      call(3),
      open(3, "/dev/null"),
      `write(3, ${quoted(UPDATE)}, 72) = 72`,
    );
    assert.deepEqual(sessions[0]?.lines.length, 2);
    assert.equal(sessions[0]?.end, "the front-end closed the device");
  });

  it("is the same device through its duplicates, until the last is closed", () => {
    const duplicates = [
      "dup(3) = 4",
      "dup2(3, 5) = 5",
      "dup3(3, 6, O_CLOEXEC) = 6",
      "fcntl(3, F_DUPFD_CLOEXEC, 0) = 7",
    ];
    const { sessions } = inspected(
      ...[open(3), ...duplicates, "close(3) = 0", "close_range(6, 7, 0) = 0"],
      ...[call(4), "close(4) = 0", call(5), "close(5) = 0", open(3), call(3)],
    );
    assert.deepEqual(
      sessions.map(({ lines }) => lines.length),
      [4, 2],
    );
  });

  it("is copied by fork and shared by threads", () => {
    const forked = ["1 fork() = 2", "1 close(3) = 0", '1 openat(AT_FDCWD, "/dev/vhost-net", O_RDWR) = 3'];
    assert.deepEqual(
      counts(`1 ${open(3)}`, ...forked, `2 ${call(3)}`, `1 ${call(3)}`, `1 ${call(3)}`),
      [1, 2],
    );
    const threaded = ["1 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD}, 88) = 2", "2 close(3) = 0"];
    const { sessions } = inspected(`1 ${open(3)}`, `1 ${call(3)}`, ...threaded);
    assert.equal(sessions[0]?.end, "the front-end closed the device");
  });

  it("is a new process's too that is heard of before its fork has returned", () => {
    const lines = [
      `1 ${open(3)}`,
      "1 fork( <unfinished ...>",
      `2 ${call(3)}`,
      "1 <... fork resumed>) = 2",
      "1 close(3) = 0",
    ];
    const { sessions } = inspected(...lines, `2 ${call(3)}`, "2 +++ exited with 0 +++");
    assert.deepEqual(
      sessions.map(({ lines: shown, end }) => [shown.length, end]),
      [[4, "the front-end closed the device"]],
    );
  });

  it("belongs to the first process while lines have no pid", () => {
    const lines = [
      open(3),
      "fork() = 2",
      "strace: Process 2 attached",
      `[pid 2] ${call(3)}`,
      `[pid 1] ${call(3)}`,
    ];
    assert.deepEqual(counts(...lines, "[pid 2] +++ exited with 0 +++", call(3)), [3]);
  });

  it("does not outlive an exec that closes it", () => {
    const opened = 'openat(AT_FDCWD, "/dev/vhost-vsock", O_RDWR|O_CLOEXEC) = 3';
    const { sessions } = inspected(opened, call(3), 'execve("/bin/true", ["true"], []) = 0');
    assert.equal(sessions[0]?.end, "the front-end closed the device");
  });

  it("is known by -y where its open was not seen, and then judged by nothing that may have come before", () => {
    const { sessions } = inspected(
      call(3, "VHOST_VSOCK_SET_RUNNING, 0x7f").replace("ioctl(3", "ioctl(3</dev/vhost-vsock>"),
    );
    assert.match(sessions[0]?.notes[0] ?? "", /no times/);
    assert.match(sessions[0]?.notes[1] ?? "", /line 1: descriptor 3 was not seen to be opened/);
    assert.deepEqual(sessions[0]?.findings, []);
  });

  it("that was not seen to be made is a duplicate of the only device, or a device of its own if that has an owner", () => {
    const { sessions } = inspected(`1 ${open(3)}`, `2 ${call(9, OWNER)}`);
    assert.match(sessions[0]?.notes[1] ?? "", /line 2: descriptor 9 of process 2 .* taken for a duplicate/);
    assert.deepEqual(counts(`1 ${open(3)}`, `1 ${call(3, OWNER)}`, `2 ${call(9, OWNER)}`), [1, 1]);
  });

  it("ends when it is closed, not when the trace does: nothing is overdue after that", () => {
    const lines = [
      open(3),
      call(3, "VHOST_SET_FEATURES, [0x300000000]"),
      `read(3, ${quoted(MISS)}, 72) = 72`,
      "close(3) = 0",
    ];
    const { sessions } = inspected(
      ...lines.map((line) => `1795422610.0 ${line}`),
      `1795422620.0 ${open(3)}`,
      `1795422620.0 ${call(3)}`,
    );
    assert.deepEqual(sessions[0]?.findings, ["features-before-offer"]);
  });

  it("is another one where -y says so", () => {
    const { sessions } = inspected(open(3), call(3), call(3).replace("(3", "(3</dev/vhost-net>"));
    assert.equal(sessions.length, 2);
    assert.equal(sessions[0]?.end, "the front-end closed the device");
  });

  it("may be used by a thread of which nothing was seen", () => {
    const lines = [`1 ${open(3)}`, `1 ${call(3, OWNER)}`, `7 read(3, ${quoted(MISS)}, 72) = 72`];
    const { sessions } = inspected(...lines, `7 write(3, ${quoted(UPDATE)}, 72) = 72`);
    assert.deepEqual(sessions[0]?.lines.slice(2), [
      "read MISS iova=0x1000 perm=r",
      "write UPDATE iova=0x1000 size=0x1000 user=0x7f000000 perm=rw",
      "write = 72",
    ]);
  });
});

describe("what a trace does not show", () => {
  it("of an IOTLB message is said, and the session is not judged by mappings any more", () => {
    const cut = `write(3, ${quoted(UPDATE, 32)}, 72) = 72`;
    const start = "ioctl(3, VHOST_VSOCK_SET_RUNNING, 0x7f) = -1 EFAULT (Bad address)";
    const features = "ioctl(3, VHOST_SET_FEATURES, [0x300000000]) = 0";
    const ring = call(3, "VHOST_SET_VRING_ADDR, 0x7f");
    const { sessions } = inspected(open(3), features, ring, cut, start);
    assert.ok(sessions[0]?.lines.includes("write (only 32 of 72 bytes: iova=0x1000 size=0x1000)"));
    assert.ok(sessions[0]?.notes.some((note) => /32 of the 72 bytes .* use strace -s 128/.test(note)));
    assert.ok(!sessions[0]?.findings.includes("bit33-without-iotlb"));
    const found = (...lines: readonly string[]): boolean =>
      inspected(open(3), ...lines).sessions[0]?.findings.includes("bit33-without-iotlb") ?? false;
    assert.ok(found(features, ring, start));
    assert.ok(!found(features, start), "a device without rings fails in the same way");
  });

  it("is counted by request at the end of its session", () => {
    const { sessions } = inspected(
      open(3),
      call(3, "VHOST_SET_VRING_NUM, 0x7f"),
      call(3, "VHOST_SET_VRING_NUM, 0x7f"),
    );
    assert.ok(
      sessions[0]?.notes.some((note) =>
        note.startsWith("only pointers are shown for VHOST_SET_VRING_NUM (2):"),
      ),
    );
  });

  it("for a line cut in two is said with its place, and held against nobody", () => {
    const bad = [call(3).slice(0, 20), "<... ioctl resumed>, 0x7f) = 0", "ioctl(3, VHOST_SET_FEATURES"];
    const start = "ioctl(3, VHOST_VSOCK_SET_RUNNING, 0x7f) = -1 EFAULT (Bad address)";
    const calls = [call(3, "VHOST_SET_FEATURES, 0x7f"), call(3, "VHOST_SET_VRING_ADDR, 0x7f")];
    const { sessions, places } = inspected(open(3), ...calls, ...bad, start);
    assert.deepEqual(places, [
      "FILE:4: the call has no end or no result",
      "FILE:5: the beginning of this ioctl is not in the trace",
      "FILE:6: the call has no end or no result",
    ]);
    assert.equal(sessions[0]?.lines.length, 6);
    assert.deepEqual(sessions[0]?.findings, ["request-refused"]);
  });

  it("before the first call on a device is a gap of its session too", () => {
    const start = "ioctl(3, VHOST_VSOCK_SET_RUNNING, 0x7f) = -1 EFAULT (Bad address)";
    const calls = [
      call(3, "VHOST_SET_FEATURES, [0x300000000]"),
      call(3, "VHOST_SET_VRING_ADDR, 0x7f"),
      start,
    ];
    const { sessions } = inspected(open(3), "write(3, ", ...calls);
    assert.ok(sessions[0]?.notes.some((note) => note.startsWith("line 2 could not be understood")));
    assert.deepEqual(sessions[0]?.findings, ["request-refused"]);
  });

  it("is no reason to be silent about lines of other programs between its own", () => {
    const { places, sessions } = inspected(open(3), "qemu: something", call(3), "more of it");
    assert.deepEqual(places, ["FILE:2: not strace's, and not looked at; there are 2 such lines"]);
    assert.equal(sessions[0]?.lines.length, 2);
  });

  it("at the end of a call that never returns leaves it without effect", () => {
    const { sessions } = inspected(`1 ${open(3)}`, "1 ioctl(3, VHOST_SET_OWNER, 0 <unfinished ...>");
    assert.deepEqual(sessions[0]?.lines, ["VHOST_SET_OWNER"]);
  });

  it("for a file without a call of vhost's is an error that says how to trace", () => {
    const failure = (problem: RegExp, ...lines: readonly string[]): void =>
      assert.throws(
        () => inspected(...lines),
        (error) =>
          error instanceof TraceError && error.code === "trace-foreign" && problem.test(error.message),
      );
    failure(/no line of strace in it/, "hello");
    failure(/no line of strace in it/);
    failure(
      /no call in it uses a \/dev\/vhost- device; trace the VMM from its start/,
      open(3, "/dev/null"),
      'read(3, "", 9) = 0',
    );
    failure(/no call in it uses/, open(3));
  });
});

describe("what is added to a trace", () => {
  it("goes to the call before it with that pointer, also in the midst of other calls", () => {
    const lines = [
      `1 ${open(3)}`,
      "1 ioctl(3, VHOST_SET_FEATURES, 0x7f10) = 0",
      "2 ioctl(3, VHOST_VSOCK_SET_GUEST_CID, 0x7f10) = 0",
      '2 0x7f10 = "\\x03\\x00\\x00\\x00\\x00\\x00\\x00\\x00"',
      '1 0x7f10 = "\\x00\\x00\\x00\\x00\\x03\\x00\\x00\\x00"',
    ];
    assert.deepEqual(
      inspected(...lines).sessions[0]?.lines.filter((line) => !line.includes("=")),
      ["VHOST_SET_FEATURES 0x300000000 [VERSION_1 ACCESS_PLATFORM]", "VHOST_VSOCK_SET_GUEST_CID 3"],
    );
  });

  it("goes to no other call, whose bytes are shown near by", () => {
    const { sessions, places } = inspected(
      open(3),
      call(3, "VHOST_SET_FEATURES, 0x7f10"),
      "0x7f10:\t0x0000000100000000",
      "0x7f18 = [0x5]",
      call(3, "VHOST_SET_VRING_NUM, 0x7f10"),
      "0x7f10:\t0x00000001",
      "0x7f14:\t0x00000080",
    );
    assert.deepEqual(
      sessions[0]?.lines.filter((line) => !line.includes(" = ")),
      ["VHOST_SET_FEATURES 0x100000000 [VERSION_1]", "VHOST_SET_VRING_NUM q1 num=128"],
    );
    assert.match(places.join(), /^FILE:4: no call before this line has that pointer/);
  });

  it("goes to a call that is under way", () => {
    const lines = [
      `1 ${open(3)}`,
      "1 ioctl(3, VHOST_GET_VRING_BASE <unfinished ...>",
      '1 0x7f10 = "\\x01\\x00\\x00\\x00\\x07\\x00\\x00\\x00"',
      "1 <... ioctl resumed>, 0x7f10) = 0",
    ];
    assert.deepEqual(inspected(...lines).sessions[0]?.lines, [
      "VHOST_GET_VRING_BASE q1",
      "VHOST_GET_VRING_BASE = 0 q1 num=7",
    ]);
  });

  it("and belongs to no call is a note with its line", () => {
    const { places } = inspected(open(3), call(3), "0x7f10:\t0x0000000300000000");
    assert.deepEqual(places, [
      "FILE:3: no call before this line has that pointer; what is added has to follow its call",
    ]);
  });
});

describe("a request of the kernel's vhost", () => {
  const TABLE = "{nregions=1, regions=[{guest_phys_addr=0, memory_size=0x10000, userspace_addr=0x7f0000}]}";
  const ADDRESSES =
    "desc_user_addr=0x7f0000, avail_user_addr=0x7f1000, used_user_addr=0x7f2000, log_guest_addr=0";
  const ring = (index: number): string[] => [
    call(3, `VHOST_SET_VRING_NUM, {index=${index}, num=8}`),
    call(3, `VHOST_SET_VRING_BASE, {index=${index}, num=0}`),
    call(3, `VHOST_SET_VRING_ADDR, {index=${index}, flags=0, ${ADDRESSES}}`),
    call(3, `VHOST_SET_VRING_KICK, {index=${index}, fd=9}`),
  ];
  const setUp = (word: string, path?: string): string[] => [
    open(3, path),
    call(3, OWNER),
    call(3, "VHOST_GET_FEATURES, [0x330000000]"),
    call(3, `VHOST_SET_FEATURES, [${word}]`),
    call(3, `VHOST_SET_MEM_TABLE, ${TABLE}`),
    ...ring(0),
  ];
  const PLAIN = "0x100000000";

  it("has its effect when it succeeds: a device whose start failed does not run", () => {
    const running = (lines: readonly string[]): unknown => {
      const { model, findings } = inspected(...lines).sessions[0] ?? assert.fail("no session");
      return [model.runningRings.length, model.rings.get(0)?.starts, findings];
    };
    const start = "ioctl(3, VHOST_VSOCK_SET_RUNNING, [1])";
    assert.deepEqual(running([...setUp(PLAIN), `${start} = 0`]), [1, 1, []]);
    assert.deepEqual(running([...setUp(PLAIN), `${start} = 0`, call(3, "VHOST_VSOCK_SET_RUNNING, [0]")]), [
      0,
      1,
      [],
    ]);
    const failed = [...setUp("0x300000000"), `${start} = -1 EFAULT (Bad address)`];
    const found = ["kernel-used-ring-unmapped", "bit33-without-iotlb", "request-refused"];
    assert.deepEqual(running(failed), [0, 0, found]);
  });

  it("of a network device starts and stops one ring by its back-end", () => {
    const lines = [
      ...setUp(PLAIN, "/dev/vhost-net"),
      ...ring(1),
      call(3, "VHOST_NET_SET_BACKEND, {index=1, fd=7}"),
    ];
    const running = (...more: readonly string[]): unknown =>
      inspected(...lines, ...more).sessions[0]?.model.runningRings.map(({ index }) => index);
    assert.deepEqual(running(), [1]);
    assert.deepEqual(running(call(3, "VHOST_NET_SET_BACKEND, {index=1, fd=-1}")), []);
  });

  it("that nobody assigned, or that is none of vhost-user's, is shown and not complained of", () => {
    const { sessions } = inspected(
      open(3),
      call(3, "_IOC(_IOC_WRITE, 0xaf, 0xee, 0x8), 0x7f"),
      call(3, "VHOST_NEW_WORKER, 0x7f"),
      "ioctl(3, VHOST_GET_BACKEND_FEATURES, 0x7f) = -1 ENOTTY (Inappropriate ioctl for device)",
    );
    assert.equal(sessions[0]?.lines[0], "_IOC(_IOC_WRITE, 0xaf, 0xee, 0x8)");
    assert.deepEqual(sessions[0]?.findings, []);
  });

  it("whose argument was shown is judged, by what was shown before it", () => {
    const found = (...lines: readonly string[]): string[] =>
      inspected(open(3), ...lines).sessions[0]?.findings ?? [];
    assert.deepEqual(found(call(3, "VHOST_VSOCK_SET_GUEST_CID, [2]")), ["kernel-guest-cid"]);
    assert.deepEqual(found(call(3, "VHOST_SET_FEATURES, [0x100000000]")), ["features-before-offer"]);
    const offer = call(3, "VHOST_GET_FEATURES, 0x7f");
    assert.deepEqual(found(offer, call(3, "VHOST_SET_FEATURES, [0x100000000]")), []);
    const unmapped = `write(3, ${quoted(UPDATE)}, 72) = 72`;
    assert.deepEqual(found(call(3, `VHOST_SET_MEM_TABLE, ${TABLE}`), unmapped), ["update-outside-memory"]);
    assert.deepEqual(found(call(3, "VHOST_SET_MEM_TABLE, 0x7f"), unmapped), []);
    assert.deepEqual(found(call(3, "VHOST_SET_FEATURES, 0x7f"), unmapped), []);
  });
});

describe("the times of a trace", () => {
  const starts = (lines: readonly string[]): boolean =>
    inspected(...lines).sessions[0]?.findings.includes("miss-unanswered") ?? false;
  const asked = (times: readonly string[]): string[] => [
    `${times[0]} ${open(3)}`,
    `${times[0]} ioctl(3, VHOST_SET_FEATURES, [0x300000000]) = 0`,
    `${times[1]} read(3, ${quoted(MISS)}, 72) = 72`,
    `${times[2]} ${call(3)}`,
  ];

  it("say what is overdue, in each of strace's ways to write them, over midnight too", () => {
    assert.equal(starts(asked(["1795422603.1", "1795422603.2", "1795422606.2"])), true);
    assert.equal(starts(asked(["1795422603.1", "1795422603.2", "1795422603.9"])), false);
    assert.equal(starts(asked(["23:59:58", "23:59:59.5", "00:00:03"])), true);
    assert.equal(starts(asked(["0.1", "0.2", "3.000001"])), true);
    assert.equal(starts(asked(["", "", ""])), false);
  });
});
