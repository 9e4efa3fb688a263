/** How a word of a command line becomes a profile. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ConfigError } from "../config/errors.js";
import { builtinGuest, builtinText } from "./builtin.js";
import { resolveProfile } from "./resolve.js";

const folder = mkdtempSync(join(tmpdir(), "bit33-profiles-"));
after(() => rmSync(folder, { recursive: true }));

function refusal(resolve: () => unknown): string {
  try {
    resolve();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return error.line;
  }
  return "nothing was refused";
}

describe("a word for a profile", () => {
  it("is a built-in profile's name", () => {
    assert.equal(resolveProfile("guest", "plain"), builtinGuest("plain"));
  });

  it("is a file if it has a slash in it or ends as YAML files do; a built-in one's text gives the same profile", () => {
    for (const name of ["mine", "mine.yaml", "mine.yml"]) {
      const path = join(folder, name);
      writeFileSync(path, builtinText("guest", "restricted-dma"));
      assert.deepStrictEqual(resolveProfile("guest", path), builtinGuest("restricted-dma"));
    }
    assert.match(
      refusal(() => resolveProfile("guest", "nowhere.yml")),
      /^nowhere\.yml: the file cannot be read \(ENOENT\)/,
    );
    assert.match(
      refusal(() => resolveProfile("guest", folder)),
      /: the file cannot be read \(EISDIR\)/,
    );
  });

  it("is as good as derived if the file says executed and is not what was checked", () => {
    const path = join(folder, "edited.yaml");
    const text = builtinText("vmm", "qemu-7.2");
    writeFileSync(path, text);
    assert.equal(resolveProfile("vmm", path).evidence, "executed");
    for (const [from, to] of [
      ["queues: 2", "queues: 3"],
      ["name: qemu-7.2", "name: my-vmm"],
    ] as const) {
      assert.ok(text.includes(from));
      writeFileSync(path, text.replace(from, to));
      assert.equal(resolveProfile("vmm", path).evidence, "derived");
    }
  });

  it("is refused at the file's own words if the file is of another kind, or has a mistake", () => {
    const path = join(folder, "guest.yaml");
    writeFileSync(path, builtinText("guest", "protected").replace("dma: protected", "dma: protect"));
    const lines = builtinText("guest", "protected").split("\n");
    const place = (key: string) =>
      `${path}:${lines.findIndex((line) => line.startsWith(key)) + 1}:${key.length + 1}`;
    assert.equal(
      refusal(() => resolveProfile("device", path)),
      `${place("profile: ")}: this describes a guest, and a device was asked for`,
    );
    assert.match(
      refusal(() => resolveProfile("guest", path)),
      new RegExp(`^${place("dma: ")}: "protect" is not one of`),
    );
  });

  it("is refused with the near names if it is neither", () => {
    assert.match(
      refusal(() => resolveProfile("device", "linux")),
      /did you mean linux-5\.10 or linux-5\.15 or linux-6\.12\?/,
    );
  });
});
