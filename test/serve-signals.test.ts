/**
 * `bit33 serve` as a process of its own: it serves, and a signal ends it as the vhost-user document's "Backend
 * program conventions" ask.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

async function isServed(path: string): Promise<void> {
  const socket = connect(path);
  await once(socket, "connect");
  socket.destroy();
}

describe("bit33 serve", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it(`ends on ${signal} with status 0, and removes its sockets`, async (t) => {
      const directory = mkdtempSync(join(tmpdir(), "bit33-"));
      t.after(() => rmSync(directory, { recursive: true }));
      const main = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
      const options = [
        ["--guest-cid", "3"],
        ["--socket", join(directory, "vm.sock")],
        ["--uds-path", join(directory, "vm.vsock")],
        ["--log-format", "json"],
      ].flat();
      const child = spawn(process.execPath, [main, "serve", ...options], {
        stdio: ["ignore", "ignore", "pipe"],
      });
      t.after(() => child.kill("SIGKILL"));
      const ended = once(child, "exit");
      const events: string[] = [];
      for await (const line of createInterface(child.stderr)) {
        events.push(JSON.parse(line).event);
        if (events.at(-1) === "listening") {
          await isServed(join(directory, "vm.sock"));
          child.kill(signal);
        }
      }
      assert.deepEqual(await ended, [0, null]);
      assert.equal(events.at(-1), "device-stopped");
      assert.deepEqual(readdirSync(directory), []);
    });
  }
});
