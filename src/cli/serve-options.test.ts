/**
 * Command lines of `bit33 serve`: the three ways to describe VMs, that they agree, and what they exclude.
 */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import { OperatorError } from "../config/errors.js";
import { readServeRequest } from "./serve-options.js";

const directory = mkdtempSync(join(tmpdir(), "bit33-options-"));
after(() => rmSync(directory, { recursive: true }));

const socket = join(directory, "vm.sock");
const udsPath = join(directory, "vm.vsock");
const paths = ["--socket", socket, "--uds-path", udsPath];

async function refuses(argv: string[], code: string, line: string | RegExp) {
  await assert.rejects(readServeRequest(argv), (error) => {
    assert.ok(error instanceof OperatorError, String(error));
    assert.equal(error.code, code, error.line);
    if (typeof line === "string") assert.equal(error.line, line);
    else assert.match(error.line, line);
    return true;
  });
}

function configFile(content: string): string {
  const name = join(directory, "vms.yaml");
  writeFileSync(name, content);
  return name;
}

describe("a serve command line", () => {
  it("for one VM needs two paths and has defaults for the rest", async () => {
    const { configs, fd, logLevel, logFormat } = await readServeRequest(paths);
    assert.equal(configs.length, 1);
    assert.deepEqual([configs[0].guestCid, configs[0].socketPath, configs[0].udsPath], [3, socket, udsPath]);
    assert.deepEqual([fd, logLevel, logFormat], [undefined, "info", "text"]);
  });

  it("takes --socket-path for --socket", async () => {
    const { configs } = await readServeRequest(["--socket-path", socket, "--uds-path", udsPath]);
    assert.equal(configs[0].socketPath, socket);
  });

  it("takes every setting as an option", async () => {
    const settings =
      "--guest-cid=9 --tx-buffer-size=65536 --queue-size=128 --groups=a+b --iotlb=explicit " +
      "--iotlb-explicit-bit=60 --access-platform=off --seqpacket=off --uds-mode=0660 --uds-group=5 --max-connections=10 " +
      "--total-buffer-size=1000000 --probation-ms=0 --connect-timeout-ms=500 --shutdown-timeout-ms=600 " +
      "--handshake-timeout-ms=700";
    const [config] = (await readServeRequest([...paths, ...settings.split(" ")])).configs;
    assert.deepEqual(
      { ...config, socketPath: "", udsPath: "" },
      {
        guestCid: 9,
        socketPath: "",
        udsPath: "",
        txBufferBytes: 65536,
        queueSize: 128,
        groups: ["a", "b"],
        iotlb: "explicit",
        explicitBit: 60,
        accessPlatform: false,
        seqpacket: false,
        udsMode: 0o660,
        udsGroup: 5,
        forwards: [],
        listens: [],
        maxConnections: 10,
        totalBufferBytes: 1_000_000,
        probationMs: 0,
        connectTimeoutMs: 500,
        handshakeTimeoutMs: 700,
        shutdownTimeoutMs: 600,
      },
    );
  });

  it("sets the log's level and format", async () => {
    const { logLevel, logFormat } = await readServeRequest([
      ...paths,
      "--log-level=debug",
      "--log-format=json",
    ]);
    assert.deepEqual([logLevel, logFormat], ["debug", "json"]);
    const format = '--log-format: "jsn" is not one of text, json; did you mean json?';
    await refuses([...paths, "--log-format=jsn"], "value-malformed", format);
    await refuses(
      [...paths, "--log-level=loud"],
      "value-malformed",
      /^--log-level: "loud" is not one of error, warn/,
    );
  });

  it("describes several VMs with --vm, each with its own place", async () => {
    const vm = (n: number, cid: number) =>
      `--vm=guest-cid=${cid},socket=${socket}${n},uds-path=${udsPath}${n}`;
    const { configs } = await readServeRequest([vm(1, 3), vm(2, 4)]);
    assert.deepEqual(
      configs.map(({ guestCid }) => guestCid),
      [3, 4],
    );
    const twice = "CID 3 is given twice, first by --vm #1 (guest-cid); each VM needs its own guest-cid";
    await refuses([vm(1, 3), vm(2, 3)], "cid-twice", `--vm #2 (guest-cid): ${twice}`);
  });

  it("refuses the CIDs, paths and numbers that the rules refuse, with the option's name", async () => {
    await refuses(
      [...paths, "--guest-cid=2"],
      "cid-reserved",
      /^--guest-cid: CID 2 is the host's own; choose/,
    );
    await refuses(
      [...paths, "--guest-cid=4294967295"],
      "cid-reserved",
      /^--guest-cid: CID 4294967295 is the wildcard/,
    );
    await refuses([...paths, "--queue-size=100"], "value-out-of-range", /^--queue-size: .* give 64 or 128$/);
    await refuses(
      [...paths, "--queue-size=65536"],
      "value-out-of-range",
      /^--queue-size: .* from 1 to 32768$/,
    );
    for (const [option, range] of [
      ["--connect-timeout-ms=0", "1 to 600000"],
      ["--handshake-timeout-ms=0", "1 to 600000"],
      ["--shutdown-timeout-ms=600001", "1 to 600000"],
      ["--probation-ms=60001", "0 to 60000"],
      ["--total-buffer-size=4095", "4096 to 68719476736"],
    ]) {
      const name = option.split("=")[0];
      await refuses([...paths, option], "value-out-of-range", new RegExp(`^${name}: .* from ${range}$`));
    }
    const missing = join(directory, "none", "s");
    await refuses(
      ["--socket", missing, "--uds-path", udsPath],
      "directory-missing",
      /^--socket: .* create it first$/,
    );
    const long = join(directory, "x".repeat(100));
    await refuses(
      ["--socket", socket, "--uds-path", long],
      "path-too-long",
      /^--uds-path: .*_4294967295 is added/,
    );
  });

  it("without any VM, or with half of one, says what to give", async () => {
    await refuses(
      [],
      "nothing-to-serve",
      /^no VM is described; give --socket and --uds-path, or --vm, or --config/,
    );
    await refuses(["--log-level=info"], "nothing-to-serve", /^no VM is described/);
    await refuses(
      ["--socket", socket],
      "key-missing",
      "uds-path is missing; give the Unix socket for host programs",
    );
    await refuses(
      ["--uds-path", udsPath],
      "key-missing",
      /^socket is missing; give the path of the Unix socket/,
    );
  });

  it("refuses to mix the ways to describe a VM", async () => {
    const vm = `--vm=socket=${socket},uds-path=${udsPath}`;
    await refuses(
      [vm, "--iotlb", "on"],
      "option-conflict",
      "--iotlb describes a single VM and cannot be combined with --vm; write iotlb=on inside --vm",
    );
    await refuses(
      ["--config=x", "--guest-cid=3"],
      "option-conflict",
      "--guest-cid describes a single VM and cannot be combined with --config; write guest-cid: 3 into the file",
    );
    await refuses(
      [vm, "--socket-path=x"],
      "option-conflict",
      /^--socket-path describes .* write socket=x inside --vm$/,
    );
    await refuses(
      [vm, "--config=x"],
      "option-conflict",
      /^--vm cannot be combined with --config; move that VM into/,
    );
  });

  it("refuses the peer's forwarding before anything else about VMs", async () => {
    const why = "bit33 never opens the host's AF_VSOCK; use uds-path=PATH, and";
    await refuses(
      ["--socket", socket, "--forward-cid", "1"],
      "forwarding-refused",
      new RegExp(`^--forward-cid: ${why}`),
    );
    await refuses(
      ["--forward-listen=9001+9002"],
      "forwarding-refused",
      new RegExp(`^--forward-listen: ${why}`),
    );
  });
});

describe("--fd", () => {
  const withFd = (fd: string | number) => ["--uds-path", udsPath, "--fd", String(fd)];

  it("must be a descriptor that is open and a socket", async () => {
    const place = /^--fd: /.source;
    await refuses(withFd("stdin"), "value-malformed", '--fd: "stdin" is not a whole number');
    await refuses(
      withFd(987654),
      "fd-unusable",
      new RegExp(`${place}descriptor 987654 is not open; let the program`),
    );
    await refuses(
      withFd("99999999999"),
      "fd-unusable",
      new RegExp(`${place}"99999999999" is no descriptor number`),
    );
  });

  it("that is a file is refused", async (t) => {
    const { openSync, closeSync } = await import("node:fs");
    const fd = openSync("/dev/null", "r");
    t.after(() => closeSync(fd));
    await refuses(
      withFd(fd),
      "fd-unusable",
      `--fd: descriptor ${fd} is not a socket; pass on a Unix socket, connected or listening`,
    );
  });
});

describe("the three notations", () => {
  const setting = fc.record(
    {
      "guest-cid": fc.integer({ min: 3, max: 0xfffffffe }).map(String),
      "tx-buffer-size": fc.integer({ min: 128, max: 2 ** 30 }).map(String),
      "queue-size": fc.integer({ min: 0, max: 15 }).map((power) => String(2 ** power)),
      groups: fc
        .array(fc.stringMatching(/^[a-z]{1,8}$/), { minLength: 1, maxLength: 3 })
        .map((g) => g.join("+")),
      iotlb: fc.constantFrom("auto", "on", "off", "explicit"),
      "access-platform": fc.constantFrom("on", "off"),
      seqpacket: fc.constantFrom("on", "off"),
      "uds-mode": fc.constantFrom("0660", "600", "0o666"),
      "uds-group": fc.nat().map(String),
      "max-connections": fc.integer({ min: 1, max: 65536 }).map(String),
      "total-buffer-size": fc.integer({ min: 4096, max: 2 ** 36 }).map(String),
      "connect-timeout-ms": fc.integer({ min: 1, max: 600_000 }).map(String),
      "handshake-timeout-ms": fc.integer({ min: 1, max: 600_000 }).map(String),
      "probation-ms": fc.integer({ min: 0, max: 60_000 }).map(String),
    },
    { requiredKeys: [] },
  );

  it("mean the same, whichever is used", async () => {
    await fc.assert(
      fc.asyncProperty(setting, async (settings) => {
        const pairs = Object.entries({ socket, "uds-path": udsPath, ...settings });
        const asOptions = await readServeRequest(pairs.map(([key, text]) => `--${key}=${text}`));
        const asVm = await readServeRequest(["--vm", pairs.map(([key, text]) => `${key}=${text}`).join(",")]);
        const lines = pairs.map(([key, text]) => `    ${key.replaceAll("-", "_")}: ${text}\n`);
        const asFile = await readServeRequest(["--config", configFile(`vms:\n  -\n${lines.join("")}`)]);
        assert.deepEqual(asVm.configs, asOptions.configs);
        assert.deepEqual(asFile.configs, asOptions.configs);
      }),
    );
  });
});
