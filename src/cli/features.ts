/**
 * `bit33 features`: decodes feature words by name. Owns the command line; what the arguments mean is in
 * features/query.ts, how the answer looks in features/report.ts, what a bit means in src/virtio.
 */

import { ConfigError } from "../config/errors.js";
import { didYouMean } from "../config/suggest.js";
import { type DeviceType, explicitIotlbBitProblem } from "../virtio/index.js";
import {
  BACKEND_DICTIONARY,
  DEVICE_TYPES,
  type Dictionary,
  protocolDictionary,
  virtioDictionary,
} from "./features/dictionary.js";
import { readQueries } from "./features/query.js";
import { jsonLine, listing, report } from "./features/report.js";
import { optionRows } from "./help.js";
import { type GivenOption, hasSwitch, type OptionTable, readArguments } from "./options.js";
import { EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { UsageError } from "./usage-error.js";

const OPTIONS = {
  type: { argument: "DEVICE", help: "name the device type's own bits too: vsock" },
  protocol: { help: "a word of vhost-user protocol features" },
  "explicit-bit": { argument: "N", help: "with --protocol: where the experimental IOTLB bit is (62)" },
  backend: { help: "a word of vhost backend features, of a kernel device" },
  list: { help: "print every feature that is known, instead of decoding" },
  json: { help: "print one JSON object a bit" },
  help: { short: "h", help: "print this and exit" },
} as const satisfies OptionTable;

type OptionName = keyof typeof OPTIONS;

const HELP = [
  "bit33 features: decodes feature words, with what each bit means to whom",
  "",
  "Usage: bit33 features WORD... [--type vsock] [--json]",
  "       bit33 features WORD... --protocol [--explicit-bit N] | --backend",
  "       bit33 features --list [--type vsock | --protocol | --backend] [--json]",
  "",
  "A WORD is a number (0x33d000002, 0b11, 12), a bit (bit33, '1<<33') or a name,",
  "present or former, with its prefix or without (VIRTIO_F_IOMMU_PLATFORM).",
  "",
  "Options:",
  ...optionRows(OPTIONS),
  "",
  "Without --protocol or --backend a WORD is virtio's: VHOST_GET_FEATURES and the",
  "like. Backend features are what VHOST_GET_BACKEND_FEATURES answers.",
  "",
  "Example, what VHOST_GET_FEATURES of the kernel's vhost-vsock answers:",
  "  bit33 features 0x33d000002 --type vsock",
  "",
  "Exit status: 0 if everything could be decoded, unknown bits included, 2 if the",
  "command line is wrong.",
].join("\n");

export async function featuresCommand(
  argv: readonly string[],
  terminal: Terminal = processTerminal,
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    terminal.print(HELP);
    return EXIT_OK;
  }
  try {
    for (const line of answer(argv)) terminal.print(line);
    return EXIT_OK;
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

/** Everything to print. Reads all arguments first, so that a mistake leaves standard output empty. */
function answer(argv: readonly string[]): string[] {
  const { options, words } = readArguments(argv, OPTIONS);
  const given = new Map(options.map((option) => [option.name, option]));
  const dictionary = chooseDictionary(given);
  if (given.has("list")) {
    if (words.length > 0) {
      const problem = `--list prints every feature; leave it out to decode ${JSON.stringify(words[0])}`;
      throw new UsageError("option-conflict", problem, "argument 1");
    }
    return list(dictionary, given.has("json"));
  }
  if (words.length === 0) {
    const problem =
      "no feature word is given: bit33 features 0x33d000002 --type vsock, or --list for all names";
    throw new UsageError("nothing-to-decode", problem);
  }
  const chosen = dictionary ?? virtioDictionary();
  const queries = readQueries(words, chosen);
  if (!given.has("json")) return [queries.map((query) => report(query, chosen)).join("\n\n\n")];
  return queries.flatMap((query) => query.bits.map((bit) => jsonLine(bit, chosen, query)));
}

/** Without a dictionary of the caller's choice: all three, the device bits that are known included. */
function list(chosen: Dictionary | undefined, asJson: boolean): string[] {
  const dictionaries =
    chosen === undefined ? [virtioDictionary("vsock"), protocolDictionary(), BACKEND_DICTIONARY] : [chosen];
  if (!asJson) return [dictionaries.map(listing).join("\n\n\n")];
  return dictionaries.flatMap((dictionary) =>
    dictionary.all.map((feature) => jsonLine({ bit: feature.bit, feature }, dictionary)),
  );
}

function chooseDictionary(given: ReadonlyMap<OptionName, GivenOption<OptionName>>): Dictionary | undefined {
  const [protocol, backend, type, explicitBit] = (
    ["protocol", "backend", "type", "explicit-bit"] as const
  ).map((name) => given.get(name));
  const kinds = [protocol, backend, type].filter((option) => option !== undefined);
  if (kinds.length > 1) {
    const [first, second] = kinds.map(({ name }) => `--${name}`);
    const problem = `${first} and ${second} name different words (device types have bits in the virtio word alone); keep one`;
    throw new UsageError("option-conflict", problem);
  }
  if (explicitBit !== undefined && protocol === undefined) {
    throw new UsageError("option-conflict", "--explicit-bit is about protocol features; add --protocol");
  }
  if (protocol !== undefined) return protocolDictionary(explicitBit && readExplicitBit(explicitBit.value));
  if (backend !== undefined) return BACKEND_DICTIONARY;
  return type && virtioDictionary(readDeviceType(type.value));
}

function readExplicitBit(value: string): number {
  const bit = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  const problem = explicitIotlbBitProblem(bit);
  if (problem !== undefined)
    throw new ConfigError("value-out-of-range", "--explicit-bit", `${value}: ${problem}`);
  return bit;
}

function readDeviceType(value: string): DeviceType {
  const type = DEVICE_TYPES.find((known) => known === value);
  if (type !== undefined) return type;
  const hint = didYouMean(value, DEVICE_TYPES) || `; the known ones: ${DEVICE_TYPES.join(", ")}`;
  const problem = `unknown device type ${JSON.stringify(value)}${hint}`;
  throw new ConfigError("value-malformed", "--type", problem);
}
