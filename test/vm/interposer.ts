/**
 * `bit33 inspect` between QEMU and the device, as a program: how it is started, and what it found. BIT33_VM_INSPECT=1
 * puts it into every guest's session, besides the kinds that always have it; BIT33_VM_INSPECT=rings has it follow the
 * rings too.
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

function followsRings(kind: GuestKind): boolean {
  return kind.ringsFollowed === true || process.env.BIT33_VM_INSPECT === "rings";
}

type Entry = Record<string, unknown>;

export class Interposer {
  readonly program: Program;

  constructor(kind: GuestKind, listen: string, connect: string, logFile: string) {
    const shown = followsRings(kind) ? ["--rings", "--device", "vsock"] : ["--quiet"];
    const options = ["--listen", listen, "--connect", connect, "--json", "--fail-on", "warning", ...shown];
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
  async end(kind: GuestKind): Promise<string | undefined> {
    const { accessPlatform, translation } = kind;
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
    return followsRings(kind) ? this.#ringsProblem(rings) : undefined;
  }

  /** It may miss packets, and has to say how many; but a guest's whole conversation does not go by unseen. */
  #ringsProblem(rings: SessionSummary["rings"]): string | undefined {
    for (const { index, traffic } of rings.slice(0, 2)) {
      const { used = 0, packets = 0, unseen = 0 } = traffic ?? {};
      if (packets === 0 || packets + unseen < used || 2 * unseen > used)
        return `of ring ${index} it has seen ${packets} packets and missed ${unseen}; ${used} buffers were used`;
      const told = this.records("packet").filter(({ ring }) => ring === index).length;
      if (told !== packets) return `of ring ${index} it showed ${told} packets and counted ${packets}`;
    }
    return undefined;
  }
}

/** The last check of an inspected guest: nothing was found that anybody would have to mend. */
export const inspection: Check = {
  name: "the interposer finds nothing wrong",
  async run({ interposer, kind }) {
    assert.ok(interposer !== undefined);
    const wrong = interposer.records("finding").filter(({ severity }) => severity !== "info");
    assert.deepEqual(wrong, []);
    // An unplugged device takes its end of that channel with it.
    const isDue = (text: unknown) =>
      kind.events?.includes("unplug") === true &&
      text === "back-end channel: the front-end closed the connection";
    assert.deepEqual(
      interposer.records("note").filter(({ text }) => !isDue(text)),
      [],
    );
  },
};
