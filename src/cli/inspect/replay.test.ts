/** A capture is inspected as the live session was: the same records, the same findings at the same places. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { CaptureFile } from "../../inspect/capture/capture-file.js";
import { encodeLink, PLAIN_LINK, VHOST_USER_LINK_TYPE } from "../../inspect/capture/link-header.js";
import { interfaceBlock, packetBlock, sectionBlock } from "../../inspect/capture/pcapng-encode.js";
import { readPackets } from "../../inspect/capture/pcapng-reader.js";
import { FrameMaker, START_NS } from "../../inspect/frames.fixture.js";
import { Inspection } from "../../inspect/inspection.js";
import type { LintTable } from "../../inspect/lints/lint.js";
import { VIOMMU_SESSION } from "../../vhost/wire/qemu-session.fixture.js";
import { inspectCommand } from "../inspect.js";
import { JsonView } from "./json-view.js";

const folder = mkdtempSync(join(tmpdir(), "b33-replay-"));
after(() => rmSync(folder, { recursive: true }));

const SECOND_NS = 1_000_000_000n;

async function inspect(
  ...argv: string[]
): Promise<{ status: number; lines: string[]; complaints: string[] }> {
  const lines: string[] = [];
  const complaints: string[] = [];
  const status = await inspectCommand(argv, {
    print: (line) => lines.push(line) > 0,
    complain: (line) => complaints.push(line) > 0,
  });
  return { status, lines, complaints };
}

/** Says something only once time has passed, with a text that depends on when that is noticed. */
const CLOCKED: LintTable = {
  clocked: {
    severity: "info",
    title: "t",
    rule: "r",
    why: "w",
    todo: "t",
    onTime: ({ nowNs }) => (nowNs > START_NS + SECOND_NS ? { text: `noticed at ${nowNs}` } : undefined),
  },
};

/** Two sessions as a live inspection would see them, with clock ticks between; what it printed. */
function live(path: string, lints?: LintTable): string[] {
  const lines: string[] = [];
  const inspection = new Inspection(
    new JsonView({ print: (line) => lines.push(line), quiet: false, deviceType: undefined }),
    lints === undefined ? {} : { lints },
  );
  const capture = new CaptureFile({ path, application: "test", onFailure: (error) => assert.fail(error) });
  const make = new FrameMaker();
  const observers = [capture, inspection] as const;
  for (const session of [1, 2]) {
    for (const each of observers) each.begun({ session, timeNs: make.nowNs, transport: "vhost-user" });
    for (const message of VIOMMU_SESSION) {
      // As the relay's thread hands it over: no Buffer.
      const recorded = make.recorded(message);
      const frame = { ...recorded, bytes: new Uint8Array(recorded.bytes) };
      const seen =
        frame.descriptorCount === 0
          ? frame
          : { ...frame, descriptorKinds: ["eventfd"] as const, descriptorCount: 1 };
      for (const each of observers) each.frame(session, seen);
    }
    make.wait(3n * SECOND_NS);
    if (inspection.time(make.nowNs)) capture.time(make.nowNs);
    for (const each of observers)
      each.remark(session, { timeNs: make.nowNs, text: "möglich", isGap: session === 1 });
    const end = { timeNs: make.nowNs, by: "back-end", reason: "the back-end closed the connection" } as const;
    for (const each of observers) each.ended(session, end);
  }
  capture.close();
  return lines;
}

describe("a capture", () => {
  it("gives the records of the live session, byte for byte", async () => {
    const path = join(folder, "whole.pcapng");
    const lines = live(path);
    const replayed = await inspect(path, "--json");
    assert.deepEqual(replayed, { status: 0, lines, complaints: [] });
    assert.ok(lines.length > 2 * VIOMMU_SESSION.length);
  });

  it("keeps the moment at which something was found overdue", () => {
    const path = join(folder, "clocked.pcapng");
    const lines = live(path, CLOCKED);
    assert.ok(lines.some((line) => line.includes("noticed at")));
    const packets = [...readPackets(path)];
    const ticks = packets.filter(({ bytes }) => bytes[5] === 4);
    assert.equal(ticks.length, 2, "one for each session");
    // What is overdue is looked for at whole tenths of a second; the tick is the first moment after that.
    const noticedNs = START_NS + 3n * SECOND_NS;
    assert.ok(lines.some((line) => line.includes(`noticed at ${noticedNs}`)));
    const afterNs = (ticks[0]?.timeNs ?? 0n) - noticedNs;
    assert.ok(afterNs >= 0n && afterNs < SECOND_NS / 10n);
  });

  it("that was never closed is as good, up to its last message", async () => {
    const path = join(folder, "killed.pcapng");
    const capture = new CaptureFile({ path, application: "test", onFailure: (error) => assert.fail(error) });
    const make = new FrameMaker();
    capture.begun({ session: 1, timeNs: make.nowNs, transport: "vhost-user" });
    capture.frame(1, make.request("GET_FEATURES"));
    const { status, lines } = await inspect(path);
    assert.equal(status, 0);
    assert.ok(lines.some((line) => line.includes("GET_FEATURES")));
    assert.ok(lines.some((line) => line.includes("session 1 ended: the capture ends here")));
    capture.close();
  });

  it("that ends within a block is shown up to there, then named with block and byte", async () => {
    const path = join(folder, "cut.pcapng");
    live(path);
    const bytes = readFileSync(path);
    writeFileSync(path, bytes.subarray(0, 1000));
    const { status, lines, complaints } = await inspect(path);
    assert.equal(status, 2);
    assert.ok(lines.some((line) => line.includes("GET_FEATURES")));
    assert.ok(lines.some((line) => line.includes("session 1 ended: the capture ends here")));
    assert.match(
      complaints[0] ?? "",
      /cut\.pcapng, block \d+ \(Enhanced Packet\) at byte \d+: .*the file ends/,
    );
  });

  it("without our packets is refused, with what to give", async () => {
    const path = join(folder, "foreign.pcapng");
    const head = [
      sectionBlock({ application: "somebody" }),
      interfaceBlock({ linkType: 1, name: "eth0", description: "Ethernet" }),
    ];
    writeFileSync(
      path,
      Buffer.concat([...head, packetBlock({ interface: 0, timeNs: 1n, bytes: new Uint8Array(60) })]),
    );
    const { status, complaints } = await inspect(path);
    assert.equal(status, 2);
    assert.match(
      complaints[0] ?? "",
      /no vhost-user message in it; give a file that bit33 inspect --capture wrote/,
    );
  });

  it("in which a message was cut is not judged any further", async () => {
    const path = join(folder, "snapped.pcapng");
    const info = { linkType: VHOST_USER_LINK_TYPE, name: "v", description: "v" };
    const body = new FrameMaker().request("GET_FEATURES").bytes;
    const link = encodeLink({ ...PLAIN_LINK, kind: "message", session: 1, body });
    const packet = packetBlock({
      interface: 0,
      timeNs: 1n,
      bytes: link.subarray(0, 24),
      originalBytes: link.length,
    });
    writeFileSync(path, Buffer.concat([sectionBlock({ application: "x" }), interfaceBlock(info), packet]));
    const { status, complaints } = await inspect(path);
    assert.equal(status, 2);
    assert.match(complaints[0] ?? "", /block 3 .*cut from 32 to 24 bytes/);
  });

  it("cannot be combined with what belongs to a live session, nor with another file", async () => {
    for (const [argv, problem] of [
      [["a.pcapng", "--once"], /--once belongs to a live session/],
      [["a.pcapng", "b.pcapng"], /one file is inspected at a time/],
    ] as const) {
      const { status, complaints } = await inspect(...argv);
      assert.equal(status, 2);
      assert.match(complaints[0] ?? "", problem);
    }
  });

  it("that cannot be written says so before anything else happens", () => {
    const path = join(folder, "missing/x.pcapng");
    assert.throws(() => new CaptureFile({ path, application: "t", onFailure: () => {} }), {
      code: "capture-unwritable",
      where: path,
    });
  });

  it("that cannot be written any more is given up once, and nothing else with it", () => {
    const path = join(folder, "pipe");
    execFileSync("mkfifo", [path]);
    const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const failures: string[] = [];
    const capture = new CaptureFile({
      path,
      application: "t",
      onFailure: ({ line }) => failures.push(line),
    });
    closeSync(reader);
    const make = new FrameMaker();
    for (let count = 0; count < 3; count++) capture.frame(1, make.request("GET_FEATURES"));
    capture.close();
    assert.equal(failures.length, 1);
    assert.match(failures[0] ?? "", /pipe: the capture cannot be written \(EPIPE\)/);
  });
});
