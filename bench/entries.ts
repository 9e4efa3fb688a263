/**
 * Who takes part in a contest, so that every setting is measured in the same rounds with as few processes as that needs:
 * a device whose default is the equal buffer stands for both settings. Must not start anything.
 */
import { VM_DEFAULTS } from "../src/device/config/vm-config.js";
import type { Side } from "./record.js";
import { SETTINGS, type Setting } from "./rows.js";

/** What each device advertises to a connection where nothing is said; the peer's is in the help of its 0.3.0. */
export const DEFAULT_BUFFER_BYTES = { ours: VM_DEFAULTS.txBufferBytes, peer: 64 * 1024 } as const;

export interface Entry {
  /** Also the name of a folder. */
  readonly name: string;
  readonly side: Side;
  readonly settings: ReadonlySet<Setting>;
  /** What the device is told to advertise; undefined: nothing, its default holds. */
  readonly bufferBytes: number | undefined;
  /** What it advertises; undefined for the floor. */
  readonly advertisedBytes: number | undefined;
}

export interface EntryOptions {
  readonly hasPeer: boolean;
  /** Default both. Without a peer "equal" is left out: there is nothing to be equal to. */
  readonly settings?: readonly Setting[];
  /** The buffer of the setting "equal"; default ours. */
  readonly bufferBytes?: number | undefined;
}

/** In the order of the sides, the one with the default before the other. */
export function entriesFor(options: EntryOptions): Entry[] {
  const { hasPeer, bufferBytes: equalBytes = DEFAULT_BUFFER_BYTES.ours } = options;
  const settings = SETTINGS.filter(
    (setting) => (options.settings ?? SETTINGS).includes(setting) && (setting === "default" || hasPeer),
  );
  const device = (side: "ours" | "peer"): Entry[] => {
    const usualBytes = DEFAULT_BUFFER_BYTES[side];
    if (equalBytes === usualBytes) return [entry(side, side, settings, undefined, usualBytes)];
    return settings.map((setting) =>
      setting === "default"
        ? entry(side, side, [setting], undefined, usualBytes)
        : entry(`${side}-equal`, side, [setting], equalBytes, equalBytes),
    );
  };
  const floor = entry("floor", "floor", settings, undefined, undefined);
  return [...device("ours"), ...(hasPeer ? device("peer") : []), floor];
}

function entry(
  name: string,
  side: Side,
  settings: readonly Setting[],
  bufferBytes: number | undefined,
  advertisedBytes: number | undefined,
): Entry {
  return { name, side, settings: new Set(settings), bufferBytes, advertisedBytes };
}
