import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, it } from "node:test";
import { StartError } from "../config/errors.js";
import { socketPair } from "../linux/unix-socket.js";
import { createLogger } from "../log/logger.js";
import type { LogRecord } from "../log/record.js";
import { type VmConfig, vmConfig } from "./config/vm-config.js";
import { startDevice } from "./device.js";

let directory: string;
let records: LogRecord[];
const log = createLogger({ level: "debug", sink: (record) => records.push(record) });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "bit33-"));
  records = [];
});

afterEach(() => rmSync(directory, { recursive: true }));

function config(guestCid: number, more: Partial<VmConfig> = {}): VmConfig {
  const name = join(directory, `vm${guestCid}`);
  return vmConfig({ guestCid, socketPath: `${name}.sock`, udsPath: `${name}.vsock`, ...more });
}

async function connected(path: string): Promise<Socket> {
  const socket = connect(path);
  await once(socket, "connect");
  return socket;
}

describe("starting devices", () => {
  it("serves both sockets of each VM, and removes all of them at the end", async () => {
    const device = await startDevice([config(3), config(4)], { log });
    for (const name of ["vm3.sock", "vm3.vsock", "vm4.sock", "vm4.vsock"]) {
      (await connected(join(directory, name))).destroy();
    }
    await device.close();
    await device.closed;
    assert.deepEqual(readdirSync(directory), []);
    assert.deepEqual(
      records
        .filter(({ event }) => event === "device-stopped")
        .map(({ vm }) => vm)
        .sort(),
      [3, 4],
    );
  });

  it("can be done more than ten times in one process without a warning", async () => {
    const warnings: Error[] = [];
    const note = (warning: Error) => warnings.push(warning);
    process.on("warning", note);
    const configs = Array.from({ length: 12 }, (_, index) => config(3 + index));
    const device = await startDevice(configs, { log });
    await device.close();
    process.off("warning", note);
    assert.deepEqual(warnings, []);
  });

  it("leaves nothing behind when one of the sockets cannot be had", async () => {
    writeFileSync(join(directory, "vm4.vsock"), "in the way");
    await assert.rejects(startDevice([config(3), config(4)], { log }), StartError);
    assert.deepEqual(readdirSync(directory), ["vm4.vsock"]);
    assert.ok(!existsSync(join(directory, "vm3.sock")));
  });

  it("tells a host program by closing its socket that no guest answers", async () => {
    const device = await startDevice([config(3, { connectTimeoutMs: 1 })], { log });
    const client = await connected(join(directory, "vm3.vsock"));
    client.end("CONNECT 80\n");
    client.resume();
    await once(client, "close");
    await device.close();
    assert.ok(records.some(({ event, vm }) => event === "host-connect-failed" && vm === 3));
  });

  it("refuses an inherited descriptor that is no socket", async () => {
    const stolen = { ...config(3), socketPath: undefined };
    await assert.rejects(startDevice([stolen], { log, fd: 999 }), StartError);
    assert.deepEqual(readdirSync(directory), []);
  });

  it("is over when the VMM on an inherited, connected socket leaves", async () => {
    const [ours, theirs] = socketPair();
    const { closed } = await startDevice([{ ...config(3), socketPath: undefined }], { log, fd: ours });
    closeSync(theirs);
    await closed;
    assert.deepEqual(readdirSync(directory), []);
    assert.ok(records.some(({ event }) => event === "session-end"));
  });

  it("serves one VMM after the other", async () => {
    const device = await startDevice([config(3)], { log });
    for (let index = 0; index < 3; index++) {
      const vmm = await connected(join(directory, "vm3.sock"));
      vmm.end();
      vmm.resume();
      await once(vmm, "close");
    }
    await device.close();
    assert.equal(records.filter(({ event }) => event === "session-end").length, 3);
  });
});
