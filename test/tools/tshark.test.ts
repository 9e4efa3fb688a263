/**
 * Captures in the eyes of the real tshark: vsock packets as it decodes them itself, vhost-user messages through the
 * dissector that the package ships. Nothing here knows Lua; a fault in the script shows in what tshark prints.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { inspectCommand } from "../../src/cli/inspect.js";
import { CaptureFile } from "../../src/inspect/capture/capture-file.js";
import { FrameMaker } from "../../src/inspect/frames.fixture.js";
import { messageOf } from "../../src/inspect/message.js";
import {
  encodeFrame,
  FLAG,
  IOTLB_TYPE,
  messagesOf,
  type NamedMessage,
  type Payload,
  type PayloadKind,
} from "../../src/vhost/wire/index.js";
import { VIOMMU_SESSION } from "../../src/vhost/wire/qemu-session.fixture.js";
import { describeFeatures, describeProtocolFeatures, F, maskOf } from "../../src/virtio/index.js";
import { Op, PacketHeader, SocketType } from "../../src/vsock/header.js";
import { CID, InspectRig } from "../inspect/rig.js";
import { SERVE_TIMEOUT_MS } from "../serve-rig.js";
import { root } from "../vm/paths.js";
import { whatToolIsMissing } from "./paths.js";

const missing = whatToolIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm installs them`);

const SCRIPT = join(root, "wireshark/vhost-user.lua");
const folder = mkdtempSync(join(tmpdir(), "b33-tshark-"));
after(() => rmSync(folder, { recursive: true }));

/** Columns of each packet, in the order of `fields`; several values of one field are joined by a comma. */
function columns(
  file: string,
  fields: readonly string[],
  options: readonly string[] = withScript,
): string[][] {
  const wanted = fields.flatMap((field) => ["-e", field]);
  const separator = ["-E", "separator=|", "-E", "occurrence=a"];
  return tshark(["-r", file, ...options, "-T", "fields", ...separator, ...wanted])
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => line.split("|"));
}

const withScript = ["-X", `lua_script:${SCRIPT}`];

function tshark(options: readonly string[]): string {
  // A home of its own: whoever runs the tests may have plugins and preferences.
  const env = { ...process.env, HOME: folder, XDG_CONFIG_HOME: join(folder, "config") };
  const done = spawnSync("tshark", ["-n", ...options], { encoding: "utf8", env, maxBuffer: 1 << 26 });
  if (done.error) throw done.error;
  assert.equal(done.status, 0, done.stderr);
  assert.doesNotMatch(done.stderr + done.stdout, /lua.*error|error.*lua/i);
  return done.stdout;
}

let count = 0;

/** A file with what `fill` puts into it. */
function captured(fill: (capture: CaptureFile, make: FrameMaker) => void): string {
  const path = join(folder, `${++count}.pcapng`);
  const capture = new CaptureFile({ path, application: "test", onFailure: (error) => assert.fail(error) });
  fill(capture, new FrameMaker());
  capture.close();
  return path;
}

const region = { guestAddress: 0x1000n, size: 0x2000n, userAddress: 0x7f00_0000_0000n, mmapOffset: 0x3000n };

/** A payload of each kind. */
const PAYLOADS: { readonly [K in PayloadKind]: Extract<Payload, { kind: K }> } = {
  none: { kind: "none" },
  u64: { kind: "u64", value: 5n },
  vringState: { kind: "vringState", index: 1, num: 256 },
  vringAddr: { kind: "vringAddr", index: 1, flags: 0, desc: 1n, used: 2n, avail: 3n, log: 4n },
  vringFd: { kind: "vringFd", index: 1, noFd: true },
  memTable: { kind: "memTable", regions: [region, region] },
  memRegion: { kind: "memRegion", region: { ...region, xen: { flags: 1, domid: 2 } } },
  log: { kind: "log", size: 0x1000n, offset: 0n },
  iotlb: {
    kind: "iotlb",
    iova: 0xf000n,
    size: 0x1000n,
    userAddress: 0x7f00n,
    perm: 3,
    type: IOTLB_TYPE.UPDATE,
  },
  config: { kind: "config", offset: 0, flags: 0, data: new Uint8Array(8) },
  vringArea: { kind: "vringArea", vring: 1n, size: 0x1000n, offset: 0n },
  inflight: { kind: "inflight", padded: true, mmapSize: 1n, mmapOffset: 2n, queueCount: 3, queueSize: 4 },
  sharedObject: { kind: "sharedObject", uuid: new Uint8Array(16) },
  deviceState: { kind: "deviceState", direction: 1, phase: 0 },
  shmemConfig: { kind: "shmemConfig", regionCount: 0, sizes: [] },
  shmemMap: { kind: "shmemMap", shmid: 1, fdOffset: 1n, shmOffset: 2n, size: 3n, flags: 4n },
  opaque: { kind: "opaque", bytes: Uint8Array.of(1, 2, 3) },
};

const ALL: readonly NamedMessage[] = [...messagesOf("frontend"), ...messagesOf("backend")];

describe("the Wireshark dissector", () => {
  it("knows every message, as request and as answer, and finds nothing malformed in it", () => {
    const expected: string[][] = [];
    const file = captured((capture, make) => {
      for (const { id, channel, name, request, reply, replies } of ALL) {
        const answer = replies === "never" ? "u64" : reply;
        for (const [kind, flags] of [
          [request, 0],
          [answer, FLAG.reply],
        ] as const) {
          const bytes = encodeFrame(id, flags, PAYLOADS[kind]);
          const onChannel = channel === "backend";
          const toBackend = onChannel === (flags === FLAG.reply);
          const way = toBackend ? "to-backend" : "to-frontend";
          capture.frame(1, make.raw(onChannel ? "backend" : "main", way, bytes));
          expected.push([onChannel ? `BACKEND_${name}` : name, String(id), flags === 0 ? "0" : "1", ""]);
        }
      }
    });
    const fields = ["vhost_user.name", "vhost_user.request", "vhost_user.reply", "_ws.malformed"];
    const seen = columns(file, [...fields, "vhost_user.malformed", "_ws.lua.error"]);
    assert.deepEqual(
      seen.map((row) => row.slice(0, 4)),
      expected,
    );
    assert.deepEqual(
      seen.filter(([, , , , malformed, error]) => malformed !== "" || error !== ""),
      [],
    );
  });

  it("shows a recorded QEMU session as bit33 decodes it", () => {
    const make = new FrameMaker();
    const frames = VIOMMU_SESSION.map((message) => make.recorded(message));
    const file = captured((capture) => {
      for (const frame of frames) capture.frame(7, frame);
    });
    const fields = ["vhost_user.session", "vhost_user.name", "vhost_user.fds", "frame.time_epoch"];
    assert.deepEqual(
      columns(file, fields),
      frames.map((frame) => [
        "7",
        messageOf(frame).name,
        String(frame.descriptorCount),
        `${frame.timeNs / 1_000_000_000n}.${String(frame.timeNs % 1_000_000_000n).padStart(9, "0")}`,
      ]),
    );
    const addresses = columns(file, [
      "vhost_user.vring_addr.desc",
      "vhost_user.iotlb.type",
      "vhost_user.iotlb.iova",
    ]);
    assert.ok(addresses.some(([desc]) => desc === "0x00000000fffff000"));
    assert.ok(addresses.some(([, type, iova]) => type === "2" && iova === "0x00000000ffffe000"));
  });

  it("names the bits of feature words, those of the device type if it is told", () => {
    const word = maskOf(1, F.VERSION_1, F.ACCESS_PLATFORM, 63);
    const file = captured((capture, make) => {
      capture.frame(1, make.request("SET_FEATURES", { kind: "u64", value: word }));
      capture.frame(1, make.request("SET_PROTOCOL_FEATURES", { kind: "u64", value: 0x9a62bn }));
    });
    const infos = (...options: string[]): string[] =>
      columns(file, ["_ws.col.Info"], [...withScript, ...options]).map(([info]) => info ?? "");
    const protocol = `SET_PROTOCOL_FEATURES ${describeProtocolFeatures(0x9a62bn)}`;
    assert.deepEqual(infos(), [`SET_FEATURES ${describeFeatures(word)}`, protocol]);
    assert.deepEqual(infos("-o", "vhost_user.device:vsock"), [
      `SET_FEATURES ${describeFeatures(word, "vsock")}`,
      protocol,
    ]);
  });

  it("marks what is malformed or unknown, and leaves other people's packets alone", () => {
    const file = captured((capture, make) => {
      capture.frame(1, make.raw("main", "to-backend", encodeFrame(8, 0, PAYLOADS.opaque)));
      capture.frame(1, make.raw("main", "to-backend", encodeFrame(77, 0, PAYLOADS.opaque)));
      capture.frame(1, make.raw("main", "to-backend", Uint8Array.of(1, 2, 3)));
      capture.frame(1, make.raw("main", "to-backend", new Uint8Array(0)));
    });
    assert.deepEqual(columns(file, ["_ws.col.Info", "vhost_user.malformed", "vhost_user.unknown"]), [
      ["SET_VRING_NUM 3 bytes (malformed)", "1", ""],
      ["request 77 3 bytes", "", "1"],
      ["no header", "1", ""],
      ["no message", "", ""],
    ]);
  });

  it("finds messages that have findings by their comments, and descriptors by their kind", () => {
    const file = captured((capture, make) => {
      const frame = make.request("SET_VRING_KICK", { kind: "vringFd", index: 0, noFd: false }, { fds: 1 });
      capture.frame(1, { ...frame, descriptorKinds: ["pipe"] }, ["error some-lint: what is wrong"]);
      capture.frame(1, make.request("SET_OWNER"));
    });
    const options = [...withScript, "-Y", 'frame.comment contains "some-lint"'];
    assert.deepEqual(columns(file, ["vhost_user.name", "vhost_user.fd_kind", "frame.comment"], options), [
      ["SET_VRING_KICK", "3", "error some-lint: what is wrong"],
    ]);
  });

  it("is found in the personal plugin folder", () => {
    const plugins = join(folder, ".local/lib/wireshark/plugins");
    mkdirSync(plugins, { recursive: true });
    copyFileSync(SCRIPT, join(plugins, "vhost-user.lua"));
    const file = captured((capture, make) => capture.frame(1, make.request("SET_OWNER")));
    const rows = columns(file, ["_ws.col.Protocol", "_ws.col.Info"], []);
    rmSync(plugins, { recursive: true });
    assert.deepEqual(rows, [["vhost-user", "SET_OWNER"]]);
  });
});

describe("vsock packets of a capture", () => {
  it("are decoded by tshark without any help", () => {
    const header = new PacketHeader();
    const bytes = new Uint8Array(44);
    const file = captured((capture, make) => {
      for (const op of [Op.REQUEST, Op.RESPONSE, Op.RW, Op.SHUTDOWN, Op.RST, Op.CREDIT_UPDATE]) {
        const length = op === Op.RW ? 5 : 0;
        Object.assign(header, {
          srcCid: 3,
          dstCid: 2,
          srcPort: 1024,
          dstPort: 5000,
          type: SocketType.STREAM,
        });
        Object.assign(header, { op, len: length, bufAlloc: 262144, fwdCnt: 7 });
        header.write(new DataView(bytes.buffer), 0);
        const payload = Buffer.from("hello").subarray(0, length);
        capture.packet(1, { timeNs: make.nowNs, ring: 1, direction: "to-device", header: bytes, payload });
      }
    });
    const fields = [
      "vsock.src_cid",
      "vsock.dst_port",
      "vsock.op",
      "vsock.trans_len",
      "vsock.virtio.op",
      "vsock.virtio.buf_alloc",
    ];
    const expected = (op: number, virtio: number): string[] => [
      "3",
      "5000",
      String(op),
      "44",
      String(virtio),
      "262144",
    ];
    assert.deepEqual(columns(file, fields, []), [
      expected(1, Op.REQUEST),
      expected(1, Op.RESPONSE),
      expected(4, Op.RW),
      expected(2, Op.SHUTDOWN),
      expected(2, Op.RST),
      expected(3, Op.CREDIT_UPDATE),
    ]);
    const payloads = columns(file, ["frame.number", "vsock.payload"], []);
    assert.deepEqual(payloads[2], ["3", Buffer.from("hello").toString("hex")]);
  });
});

describe("a session whose rings were followed", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("has its packets decoded by tshark: ports, operations and payload, by ring", async () => {
    const rig = new InspectRig();
    try {
      const file = join(folder, "rings.pcapng");
      await rig.serve.start([CID]);
      await rig.inspect("--json", "--once", "--rings", "--device", "vsock", "--capture", file);
      const machine = rig.boot("direct");
      while (rig.records("packet").length < 20) await rig.serve.exchange(machine, CID, 100_000);
      rig.off(machine);
      assert.equal(await rig.end(), 0);
      const fields = [
        "frame.interface_name",
        "vsock.virtio.op",
        "vsock.src_port",
        "vsock.dst_port",
        "vsock.virtio.len",
        "vsock.virtio.buf_alloc",
        "_ws.malformed",
      ];
      const expected = rig
        .records("packet")
        .map(({ ring, op, srcPort, dstPort, len, bufAlloc }) => [
          `vsock-1-q${ring}`,
          ...[op, srcPort, dstPort, len, bufAlloc].map(String),
          "",
        ]);
      assert.deepEqual(columns(file, fields, ["-Y", "vsock"]), expected);
      const payloads = columns(file, ["vsock.virtio.len", "vsock.payload"], ["-Y", "vsock.payload"]);
      assert.ok(payloads.length > 0);
      for (const [length, payload] of payloads) assert.equal((payload ?? "").length, 2 * Number(length));
    } finally {
      await rig.close();
    }
  });
});

describe("a capture that Wireshark has saved again", () => {
  it("gives the same records", async () => {
    const file = captured((capture, make) => {
      capture.begun({ session: 1, timeNs: make.nowNs, transport: "vhost-user" });
      for (const message of VIOMMU_SESSION) capture.frame(1, make.recorded(message));
      capture.ended(1, { timeNs: make.nowNs, by: "front-end", reason: "the end" });
    });
    const again = join(folder, "again.pcapng");
    tshark(["-r", file, "-w", again]);
    const lines = async (path: string): Promise<string[]> => {
      const printed: string[] = [];
      const print = (line: string): boolean => printed.push(line) > 0;
      assert.equal(await inspectCommand([path, "--json"], { print, complain: assert.fail }), 0);
      return printed;
    };
    assert.deepEqual(await lines(again), await lines(file));
  });
});
