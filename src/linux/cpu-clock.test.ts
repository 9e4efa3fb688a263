import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { describe, it } from "node:test";
import { processCpuNs } from "./cpu-clock.js";
import { errno } from "./errors.js";

describe("the CPU clock of a process", () => {
  it("goes on while this process works", () => {
    const before = processCpuNs(process.pid);
    assert.ok(before > 0);
    while (processCpuNs(process.pid) < before + 1e6);
  });

  it("is that of another process, and gone with it", async () => {
    const child = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"]);
    const pid = child.pid as number;
    assert.ok(processCpuNs(pid) >= 0);
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
    assert.equal(processCpuNs(pid), -errno.EINVAL);
  });
});
