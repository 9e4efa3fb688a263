/** `bit33 inspect` as a user starts it, between the built-in guest and `bit33 serve`, each a process. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createConnection } from "node:net";
import { afterEach, beforeEach, describe, it } from "node:test";
import { DMA_KINDS } from "../../src/guest/dma.js";
import type { SessionSummary } from "../../src/inspect/summary.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import { F, hex, mask, maskOf } from "../../src/virtio/index.js";
import { run, SERVE_TIMEOUT_MS } from "../serve-rig.js";
import { CID, type Entry, InspectRig } from "./rig.js";

describe("bit33 inspect", { timeout: SERVE_TIMEOUT_MS }, () => {
  let rig: InspectRig;

  beforeEach(() => {
    rig = new InspectRig();
  });
  afterEach(() => rig.close());

  for (const kind of DMA_KINDS) {
    it(`lets a session go through as if it were not there, and finds nothing wrong: ${kind}`, async () => {
      await rig.serve.start([CID]);
      await rig.inspect("--json", "--once", "--fail-on", "warning");
      const machine = rig.boot(kind);
      await rig.serve.exchange(machine, CID, 300_000);
      rig.off(machine);
      assert.equal(await rig.end(), 0);
      const [summary] = rig.records("summary");
      const { translation, rings, features } = summary as {
        translation: { verdict: string };
        rings: { size: number }[];
        features: { bit: number; guest: string; frontEnd: string; backEnd: string }[];
      };
      const isTranslated = kind === "viommu" || kind === "passthrough";
      assert.equal(translation.verdict, isTranslated ? "translated" : "not translated");
      assert.deepEqual(
        rings.map(({ size }) => size),
        [128, 128],
      );
      const bit33 = features.find(({ bit }) => bit === F.ACCESS_PLATFORM);
      const seen = isTranslated ? "yes" : "no";
      assert.deepEqual(
        [bit33?.guest, bit33?.frontEnd, bit33?.backEnd],
        [isTranslated ? "yes" : "unseen", seen, "yes"],
      );
      const channel = rig.records("message").filter((entry) => entry.channel === "backend");
      assert.equal(channel.length > 0, isTranslated);
    });
  }

  it("says of a VMM that hands bit 33 on and maps nothing what is wrong with it, and fails if asked to", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--quiet", "--fail-on", "warning");
    const machine = rig.boot("protected", builtinVmm("crosvm-vhost-user"));
    const finding = await rig.record("finding", ({ lint }) => lint === "bit33-without-iotlb");
    assert.equal(finding.severity, "warning");
    assert.match(String(finding.text), /rings run at user addresses, and no IOTLB message came/);
    assert.deepEqual(rig.records("message"), []);
    rig.off(machine);
    await rig.record("summary");
    assert.equal(await rig.stop(), 3);
  });

  it("cures it from outside: with --serve-iotlb a back-end that translates every address serves that very guest", async () => {
    rig.serve.iotlb = "on";
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--serve-iotlb");
    const machine = rig.boot("protected", builtinVmm("crosvm-vhost-user"));
    await rig.serve.exchange(machine, CID, 300_000);
    rig.off(machine);
    const { iotlb } = await rig.record("summary");
    assert.ok((iotlb as { updates: number }).updates >= 2);
    assert.equal(machine.frontEnd.session.missCount, 0, "the front-end was asked for nothing");
    assert.ok(
      rig.records("note").some(({ text }) => /^repair: mapped .* at gpa:0x\w+ and uva:0x/.test(String(text))),
    );
  });

  it("cures it on the other side too: with --mask-feature the back-end that broke never hears of bit 33", async () => {
    await rig.playBackEnd("crosvm-backend");
    await rig.inspect("--json", "--mask-feature", "VIRTIO_F_IOMMU_PLATFORM");
    const machine = rig.boot("protected", builtinVmm("crosvm-vhost-user"));
    await rig.serve.exchange(machine, CID, 300_000);
    rig.off(machine);
    await rig.record("note", ({ text }) => String(text).startsWith("repair: SET_FEATURES goes on as"));
  });

  it("breaks as in August 2022 without that: the rings never run", async () => {
    await rig.playBackEnd("crosvm-backend");
    await rig.inspect("--json", "--once", "--fail-on", "warning");
    rig.boot("protected", builtinVmm("crosvm-vhost-user"));
    assert.equal(await rig.end(), 3);
    const [{ end, findings }] = rig.records("summary");
    assert.equal((end as { by: string }).by, "back-end");
    const lints = (findings as { lint: string }[]).map(({ lint }) => lint);
    assert.ok(lints.includes("bit33-without-iotlb"), lints.join());
  });

  it("shows packed rings as they are", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--once", "--fail-on", "warning");
    const qemu = builtinVmm("qemu-7.2");
    const offer = { ...qemu.offer, own: qemu.offer.own | mask(F.RING_PACKED) };
    const machine = rig.boot("viommu", { ...qemu, offer });
    await rig.serve.exchange(machine, CID, 100_000);
    rig.off(machine);
    assert.equal(await rig.end(), 0);
    const set = await rig.record("message", ({ name }) => name === "SET_FEATURES");
    const acknowledged = BigInt((set.payload as { value: string }).value);
    assert.notEqual(acknowledged & maskOf(F.RING_PACKED), 0n, hex(acknowledged));
  });

  for (const [what, kind, packed] of [
    ["split rings", "direct", false],
    ["split rings behind a vIOMMU", "viommu", false],
    ["packed rings", "direct", true],
    ["packed rings behind a vIOMMU", "viommu", true],
  ] as const) {
    it(`follows the rings if asked to, and shows their packets: ${what}`, async () => {
      await rig.serve.start([CID]);
      await rig.inspect("--json", "--once", "--rings", "--device", "vsock", "--fail-on", "warning");
      const qemu = builtinVmm("qemu-7.2");
      const offer = { ...qemu.offer, own: qemu.offer.own | (packed ? mask(F.RING_PACKED) : 0n) };
      const machine = rig.boot(kind, { ...qemu, offer });
      const names = (): string[] => rig.records("packet").map(({ ring, name }) => `q${ring} ${name}`);
      // On a busy machine some go by unseen, but not the same ones each time.
      for (const wanted of ["q1 REQUEST", "q0 RESPONSE", "q1 RW", "q0 RW"]) {
        while (!names().includes(wanted)) await rig.serve.exchange(machine, CID, 100_000);
      }
      rig.off(machine);
      assert.equal(await rig.end(), 0);
      const [{ rings }] = rig.records("summary") as unknown as SessionSummary[];
      for (const { traffic } of rings) {
        assert.ok(traffic !== undefined);
        const { available, used, packets: shown, unseen } = traffic;
        const figures = JSON.stringify(traffic);
        assert.ok(used > 0 && available >= used, figures);
        // What the guest sends is seen before it is used.
        assert.ok(shown + unseen >= used && shown + unseen <= available, figures);
      }
    });
  }

  it("keeps packets in a capture, and shows them again from there", async () => {
    const capture = rig.path("rings.pcapng");
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--once", "--rings", "--device", "vsock", "--capture", capture);
    const machine = rig.boot("direct");
    while (rig.records("packet").length < 10) await rig.serve.exchange(machine, CID, 100_000);
    rig.off(machine);
    assert.equal(await rig.end(), 0);
    const { status, output } = await run("inspect", capture, "--json", "--device", "vsock");
    assert.equal(status, 0);
    const replayed = output
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Entry);
    const of = (entries: readonly Entry[], kind: string): Entry[] =>
      entries.filter((entry) => entry.kind === kind);
    assert.deepEqual(of(replayed, "packet"), rig.records("packet"));
    assert.deepEqual(of(replayed, "summary"), rig.records("summary"));
  });

  it("counts what rings carry of which it does not know the device, and shows no packets", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--once", "--rings");
    const machine = rig.boot("direct");
    await rig.serve.exchange(machine, CID, 100_000);
    rig.off(machine);
    assert.equal(await rig.end(), 0);
    const text = rig.lines.join("\n");
    assert.match(
      text,
      /^ {4}\d+ buffers made available, [1-9]\d* used, .* 0 packets shown, at least \d+ kicks/m,
    );
    assert.doesNotMatch(text, / q[01] [<>] /);
  });

  it("prints one line a message, with names, and the summary, as text", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--once", "--device", "vsock");
    const machine = rig.boot("viommu");
    await rig.serve.exchange(machine, CID, 100_000);
    rig.off(machine);
    assert.equal(await rig.end(), 0);
    const text = rig.lines.join("\n");
    assert.match(text, /^session 1 begins at \d{4}-/);
    assert.match(text, /^1 +\d+\.\d{6} #1 > {2}GET_FEATURES$/m);
    assert.match(
      text,
      /#2 < {2}GET_FEATURES REPLY 0x\w+ \[VSOCK_SEQPACKET .*ACCESS_PLATFORM.*\] {2}\(#1, \d+\.\d{3} ms\)$/m,
    );
    assert.match(text, /> {2}SET_VRING_ADDR q0 desc=iova:0x\w+ avail=iova:0x\w+ used=iova:0x\w+$/m);
    assert.match(text, /<< BACKEND_IOTLB_MSG .*MISS iova=0x\w+ perm=r/);
    assert.match(text, /SET_BACKEND_REQ_FD NEED_REPLY fds=1 \(socket\)$/m);
    assert.match(text, /^ {2}33 ACCESS_PLATFORM +yes +yes +yes$/m);
    assert.match(text, /^ {2}addresses are translated:$/m);
    assert.match(text, /^ {2}IOTLB: \d+ UPDATE, \d+ INVALIDATE, \d+ MISS, \d+ of them answered, after/m);
  });

  it("ends the session when the back-end dies, and begins another with the next one", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--json");
    const first = rig.boot("direct");
    await rig.serve.exchange(first, CID, 1000);
    await rig.serve.stop("SIGKILL");
    const summary = await rig.record("summary");
    assert.equal((summary.end as { by: string }).by, "back-end");
    rig.off(first);
    await rig.serve.start([CID]);
    const second = rig.boot("direct");
    await rig.serve.exchange(second, CID, 1000);
    rig.off(second);
    await rig.record("summary", ({ session }) => session === 2);
    assert.equal(await rig.stop(), 0);
  });

  it("waits for a back-end that is started after it", async () => {
    await rig.inspect("--json");
    const early = createConnection(rig.path("front"));
    await rig.record("note", ({ text }) => /cannot connect to .*; trying again/.test(String(text)));
    await rig.serve.start([CID]);
    // GET_FEATURES, which the back-end answers once it is there.
    early.write(Buffer.from("010000000100000000000000", "hex"));
    await rig.record("message", ({ name, reply }) => name === "GET_FEATURES" && reply === true);
    early.destroy();
    await rig.record("summary");
  });

  it("says when the back-end does not come at all", async () => {
    await rig.inspect("--json", "--once", "--connect-timeout", "0");
    const front = createConnection(rig.path("front"));
    front.on("error", () => {});
    assert.equal(await rig.end(), 0);
    const [summary] = rig.records("summary");
    assert.match((summary.end as { reason: string }).reason, /cannot connect to .*ENOENT/);
    front.destroy();
  });

  it("sums a session up that it is ended in, and leaves no socket behind", async () => {
    await rig.serve.start([CID]);
    await rig.inspect("--json");
    const machine = rig.boot("direct");
    await rig.serve.exchange(machine, CID, 1000);
    assert.equal(await rig.stop("SIGINT"), 0);
    const [summary] = rig.records("summary");
    assert.equal((summary.end as { by: string }).by, "observer");
    assert.ok(!existsSync(rig.path("front")));
  });

  it("stands in front of a back-end that connects by itself", async () => {
    // Turned round: the front-end listens, and what comes to the interposer is the back-end.
    await rig.serve.start([CID]);
    await rig.inspect("--json", "--once", "--reverse");
    const backEnd = createConnection(rig.path("front"));
    // The end at --connect is taken for the front-end; a back-end there is silent, so the other one speaks.
    backEnd.write(Buffer.from("0100000005000000080000000000000000000000", "hex"));
    const message = await rig.record("message");
    assert.equal(message.direction, "to-frontend");
    backEnd.destroy();
    assert.equal(await rig.end(), 0);
  });

  for (const [what, argv, complaint] of [
    ["no ends", [], /one end is missing; give --listen PATH/],
    ["one end", ["--listen", "/tmp/a"], /give --connect PATH, the back-end's socket/],
    [
      "a feature that there is not",
      ["--listen", "/tmp/a", "--connect", "/tmp/b", "--mask-feature", "ACCESS_PLATFROM"],
      /there is no such feature; did you mean ACCESS_PLATFORM\?/,
    ],
    [
      "a name for two features",
      ["--listen", "/tmp/a", "--connect", "/tmp/b", "--add-feature", "VIRTIO_F_SUSPEND"],
      /stands for bit42 and bit43|stands for bit43 and bit42/,
    ],
    [
      "a side that there is not",
      ["--listen", "/tmp/a", "--connect", "/tmp/b", "--mask-feature", "VERSION_1:both"],
      /behind the name comes :ack or :offer, or nothing/,
    ],
    ["one path for both", ["--listen", "/tmp/a", "--connect", "/tmp/a"], /are the same path/],
    [
      "a folder that is not there",
      ["--listen", "/nowhere/a", "--connect", "/tmp/b"],
      /there is no directory \/nowhere/,
    ],
    [
      "a level that is none",
      ["--listen", "/tmp/a", "--connect", "/tmp/b", "--fail-on", "bad"],
      /"bad" is none of info, warning, error/,
    ],
    [
      "a timeout that is none",
      ["--listen", "/tmp/a", "--connect", "/tmp/b", "--connect-timeout", "x"],
      /no number of seconds/,
    ],
  ] as const) {
    it(`refuses ${what}`, async () => {
      const { status, complaint: said } = await run("inspect", ...argv);
      assert.equal(status, 2);
      assert.match(said, complaint);
      assert.equal(said.trim().split("\n").length, 1);
    });
  }

  it("explains itself", async () => {
    const { status, output } = await run("inspect", "--help");
    assert.equal(status, 0);
    for (const option of ["--listen", "--connect", "--fail-on", "--json", "--once"])
      assert.ok(output.includes(option), option);
  });
});
