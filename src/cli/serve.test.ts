/**
 * Serving from start to clean end, with a device that is only a stand-in.
 */

import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { StartError } from "../config/errors.js";
import type { VmConfig } from "../device/config/vm-config.js";
import { type ServeDependencies, type ServedDevice, serveCommand } from "./serve.js";

const directory = mkdtempSync(join(tmpdir(), "bit33-serve-"));
after(() => rmSync(directory, { recursive: true }));

const socket = join(directory, "vm.sock");
const udsPath = join(directory, "vm.vsock");
const argv = ["--guest-cid", "7", "--socket", socket, "--uds-path", udsPath];

/** Everything around `serve`, recorded; the test says when the signal comes and how the device ends. */
class Surroundings implements ServeDependencies {
  readonly printed: string[] = [];
  readonly complaints: string[] = [];
  readonly logged: string[] = [];
  started: readonly VmConfig[] | undefined;
  closeCalls = 0;
  startFailure: Error | undefined;
  closed: Promise<void> = new Promise(() => {});
  signal: Promise<string> = new Promise(() => {});

  readonly terminal = { print: keepIn(this.printed), complain: keepIn(this.complaints) };
  readonly logOutput = keepIn(this.logged);
  readonly waitForStop = () => this.signal;
  readonly startDevice = async (configs: readonly VmConfig[]): Promise<ServedDevice> => {
    if (this.startFailure !== undefined) throw this.startFailure;
    this.started = configs;
    return {
      closed: this.closed,
      configs,
      add: async () => {},
      remove: async () => {},
      reports: async () => [],
      close: async () => {
        this.closeCalls++;
      },
    };
  };
}

function keepIn(lines: string[]) {
  return (line: string) => lines.push(line) > 0;
}

describe("bit33 serve", () => {
  it("starts the devices, logs that they listen, and ends with 0 after a signal", async () => {
    const around = new Surroundings();
    around.signal = Promise.resolve("SIGTERM");
    assert.equal(await serveCommand([...argv, "--log-format=json"], around), 0);
    assert.deepEqual(
      around.started?.map(({ guestCid }) => guestCid),
      [7],
    );
    assert.equal(around.closeCalls, 1);
    assert.equal(around.logged.length, 1);
    const { time: _, ...record } = JSON.parse(around.logged[0]);
    assert.deepEqual(record, {
      level: "info",
      event: "listening",
      vm: 7,
      message: "ready for a VMM and for host programs",
      socket,
      udsPath,
      iotlb: "auto",
      accessPlatform: true,
    });
    assert.deepEqual([around.printed, around.complaints], [[], []]);
  });

  it("logs one such line for each VM", async () => {
    const around = new Surroundings();
    around.signal = Promise.resolve("SIGINT");
    const vm = (cid: number) => `--vm=guest-cid=${cid},socket=${socket}${cid},uds-path=${udsPath}${cid}`;
    assert.equal(await serveCommand([vm(3), vm(4)], around), 0);
    assert.deepEqual(
      around.logged.map((line) => line.split(" ").slice(1, 4).join(" ")),
      ["info vm=3 listening:", "info vm=4 listening:"],
    );
  });

  it("ends with 0 when the device ends, as an inherited connection does", async () => {
    const around = new Surroundings();
    around.closed = Promise.resolve();
    assert.equal(await serveCommand(argv, around), 0);
    assert.equal(around.closeCalls, 0);
  });

  it("ends with 1 and an internal-error record when serving fails", async () => {
    const around = new Surroundings();
    around.closed = Promise.reject(new Error("the worker died"));
    assert.equal(await serveCommand(argv, around), 1);
    assert.match(around.logged.at(-1) ?? "", / error internal-error: serving ended: Error: the worker died$/);
  });

  it("ends with 2 and one line when a socket path is in use", async () => {
    const around = new Surroundings();
    around.startFailure = new StartError("path-in-use", socket, "another process\nlistens there; stop it");
    assert.equal(await serveCommand(argv, around), 2);
    assert.deepEqual(around.complaints, [`bit33: ${socket}: another process\\u000alistens there; stop it`]);
    assert.deepEqual(around.logged, []);
  });

  it("ends with 1 and the stack when starting fails for a reason of its own", async () => {
    const around = new Surroundings();
    around.startFailure = new TypeError("surprise");
    assert.equal(await serveCommand(argv, around), 1);
    assert.match(
      around.complaints[0],
      /^bit33: internal error, please report it: TypeError: surprise\n {4}at /,
    );
  });

  it("ends with 2 and one line for a wrong command line, and starts nothing", async () => {
    const around = new Surroundings();
    assert.equal(await serveCommand([...argv, "--guest-cdi=3"], around), 2);
    assert.deepEqual(around.complaints, ["bit33: unknown option --guest-cdi; did you mean --guest-cid?"]);
    assert.equal(around.started, undefined);
  });

  it("prints its capabilities whatever else is on the command line", async () => {
    const around = new Surroundings();
    assert.equal(await serveCommand(["--nonsense", "--print-capabilities", "--fd=x"], around), 0);
    const { type, features } = JSON.parse(around.printed.join("\n"));
    assert.equal(type, "vsock");
    assert.ok(features.includes("iotlb"));
    assert.deepEqual(around.complaints, []);
  });

  it("explains every setting and option in its help", async () => {
    const around = new Surroundings();
    assert.equal(await serveCommand(["--help"], around), 0);
    const [help] = around.printed;
    for (const option of [
      "--guest-cid CID",
      "--uds-group NAME|GID",
      "--vm KEY=VALUE,...",
      "--fd N",
      "-h, --help",
    ]) {
      assert.ok(help.includes(option), option);
    }
    assert.ok(!help.includes("forward-"));
    assert.match(help, /--groups .*reach each other by CID/);
  });

  it("knows its version", async () => {
    const around = new Surroundings();
    assert.equal(await serveCommand(["-V"], around), 0);
    assert.match(around.printed[0], /^bit33 \d+\.\d+\.\d+/);
  });
});
