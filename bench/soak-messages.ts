/** What a soak asks of the process of each of its VMs, and what that answers. One question at a time. */
import type { PlatformOptions } from "../src/guest/platform.js";
import type { SceneName } from "./soak-scenes.js";

export type ToPlayers =
  | {
      readonly do: "begin";
      readonly socketPath: string;
      readonly udsPath: string;
      readonly machines: readonly PlatformOptions[];
      readonly seed: number;
    }
  /** Sets the rest between two scenes, and wants to know how things stand. */
  | { readonly do: "report"; readonly restMs: number }
  /** No new scene begins; answered once the last one is over. */
  | { readonly do: "hold" }
  | { readonly do: "go-on" }
  /** Shuts the machine down, as a VMM does or by vanishing, and boots it again, on other memory or the same. */
  | { readonly do: "reboot"; readonly orderly: boolean; readonly newMachine: boolean; readonly offMs: number }
  /** Comes to the end, and ends. */
  | { readonly do: "end" };

/** What was done since the beginning. */
export interface Tally {
  readonly played: Partial<Record<SceneName, number>>;
  /** Connections. */
  readonly opened: number;
  readonly movedBytes: number;
  readonly reboots: number;
  /** Scenes that a reboot cut off. */
  readonly cutOff: number;
  /** Scenes in which a connection was not answered in time. */
  readonly late: number;
  /** Streams in which a wrong byte came. */
  readonly corrupt: number;
  /** Scenes that ended otherwise than they had to. */
  readonly failures: number;
  /** The first of both, in words. */
  readonly troubles: readonly string[];
}

/** Adds up what several VMs have done. */
export function totalOf(tallies: readonly Tally[]): Tally {
  const sum = (of: (tally: Tally) => number): number =>
    tallies.reduce((total, tally) => total + of(tally), 0);
  const played: Partial<Record<SceneName, number>> = {};
  for (const tally of tallies) {
    for (const [name, count] of Object.entries(tally.played) as [SceneName, number][])
      played[name] = (played[name] ?? 0) + count;
  }
  return {
    played,
    opened: sum(({ opened }) => opened),
    movedBytes: sum(({ movedBytes }) => movedBytes),
    reboots: sum(({ reboots }) => reboots),
    cutOff: sum(({ cutOff }) => cutOff),
    late: sum(({ late }) => late),
    corrupt: sum(({ corrupt }) => corrupt),
    failures: sum(({ failures }) => failures),
    troubles: tallies.flatMap(({ troubles }) => troubles),
  };
}
