/**
 * `bit33 inspect` between QEMU and the device, as a program: how it is started, and what it found. BIT33_VM_INSPECT=1
 * puts it into every guest's session, besides the kinds that always have it.
 */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { SessionSummary } from "../../src/inspect/summary.js";
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
    const options = ["--listen", listen, "--connect", connect, "--json", "--quiet", "--fail-on", "warning"];
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

  /** Ends it once QEMU is gone, and says what is wrong with how it went; undefined if nothing is. */
  async end({ accessPlatform, translation }: GuestKind): Promise<string | undefined> {
    await this.program.alongside(
      until("the interposer's summary", () => (this.records("summary").length > 0 ? true : undefined)),
    );
    const how = await this.program.stop();
    if (how !== "exit status 0") return how;
    const [{ messages, rings, iotlb }] = this.records("summary") as unknown as SessionSummary[];
    const isTranslated = accessPlatform && translation === "on";
    const { updates, misses } = iotlb;
    if (messages.toBackend < 30 || rings.length < 2) return "it has not seen the session";
    if (updates > 0 !== isTranslated || misses > 0 !== isTranslated)
      return `${updates} UPDATEs and ${misses} MISSes in a session that is ${isTranslated ? "" : "not "}translated`;
    return undefined;
  }
}

/** The last check of an inspected guest: nothing was found that anybody would have to mend. */
export const inspection: Check = {
  name: "the interposer finds nothing wrong",
  async run({ interposer }) {
    assert.ok(interposer !== undefined);
    const wrong = interposer.records("finding").filter(({ severity }) => severity !== "info");
    assert.deepEqual(wrong, []);
    assert.deepEqual(interposer.records("note"), []);
  },
};
