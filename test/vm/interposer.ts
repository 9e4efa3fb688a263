/**
 * `bit33 inspect` between QEMU and the device, as a program: how it is started, and what it found. BIT33_VM_INSPECT=1
 * puts it into every guest's session, besides the kinds that always have it.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Check } from "./checks.js";
import type { GuestKind } from "./kinds.js";
import { Program } from "./program.js";
import { until } from "./waiting.js";

const cli = join(dirname(fileURLToPath(import.meta.url)), "../../src/cli/main.js");

export function isInspected(kind: GuestKind): boolean {
  return kind.inspected === true || process.env.BIT33_VM_INSPECT !== undefined;
}

type Entry = Record<string, unknown>;

export class Interposer {
  readonly program: Program;

  constructor(listen: string, connect: string, logFile: string) {
    const options = ["--listen", listen, "--connect", connect, "--json", "--fail-on", "warning"];
    this.program = new Program("the interposer", [process.execPath, cli, "inspect", ...options], logFile);
  }

  async ready(): Promise<void> {
    await this.program.alongside(
      until("the interposer listens", () =>
        this.program.lines.some((line) => line.startsWith("inspecting:")) ? true : undefined,
      ),
    );
  }

  /** Its records of one kind, oldest first. */
  records(kind: string): Entry[] {
    return this.program.lines
      .filter((line) => line.startsWith(`{"kind":"${kind}"`))
      .map((line) => JSON.parse(line) as Entry);
  }
}

/** The last check of an inspected guest: all was seen, and nothing found that anybody would have to mend. */
export const inspection: Check = {
  name: "the interposer has seen it all and found nothing wrong",
  async run(lab) {
    const interposer = lab.interposer;
    assert.ok(interposer !== undefined);
    const { accessPlatform, translation } = lab.kind;
    const names = new Set(interposer.records("message").map(({ name }) => name));
    for (const name of ["GET_FEATURES", "SET_FEATURES", "SET_VRING_ADDR", "SET_VRING_KICK"])
      assert.ok(names.has(name), name);
    const isTranslated = accessPlatform && translation === "on";
    assert.equal(names.has("IOTLB_MSG"), isTranslated);
    assert.equal(names.has("BACKEND_IOTLB_MSG"), isTranslated);
    const wrong = interposer.records("finding").filter(({ severity }) => severity !== "info");
    assert.deepEqual(wrong, []);
    assert.deepEqual(interposer.records("note"), []);
  },
};
