import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

/** What a program of its own prints, read only after it had time to fill the pipe. */
async function printedBy(
  program: string,
): Promise<{ readonly text: string; readonly status: number | null }> {
  const child = spawn(process.execPath, ["--input-type=module", "--eval", program], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  await sleep(300);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (piece: string) => {
    text += piece;
  });
  return { status: await ended, text };
}

describe("the terminal", () => {
  it("loses no line to a slow reader, though node has made the pipe non-blocking", async () => {
    const terminal = JSON.stringify(new URL("./terminal.js", import.meta.url).href);
    const { text, status } = await printedBy(`
      import { processTerminal } from ${terminal};
      process.stdout;
      for (let i = 0; i < 4000; i++) processTerminal.print("x".repeat(200) + i);
      process.exit(0);
    `);
    assert.equal(status, 0);
    const lines = text.trimEnd().split("\n");
    assert.equal(lines.length, 4000);
    assert.ok(lines.every((line, i) => line === `${"x".repeat(200)}${i}`));
  });
});
