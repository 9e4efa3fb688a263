/**
 * `bit33 compat`: the compatibility matrix of guests, VMMs and vsock devices, run and explained. Owns the command line's
 * help and which answer is given; requests are read in compat/request.ts, answered in compat/answer.ts.
 */
import { PROFILE_KINDS } from "../profiles/profile.js";
import {
  answerCompare,
  answerExplain,
  answerMatrix,
  processSurroundings,
  type Surroundings,
} from "./compat/answer.js";
import { builtinOf, dumped } from "./compat/choices.js";
import { listing, listingJson } from "./compat/listing.js";
import { OPTIONS, type Request, readRequest } from "./compat/request.js";
import { optionRows } from "./help.js";
import { hasSwitch, readOptions } from "./options.js";
import { EXIT_OK, reportFailure } from "./terminal.js";

const HELP = [
  "bit33 compat: which guest works on which VMM with which vsock device",
  "",
  "Usage: bit33 compat [--guest G]... [--vmm V]... [--device D]... [OPTION...]",
  "       bit33 compat --explain GUEST/VMM/DEVICE",
  "       bit33 compat --before X --after Y",
  "       bit33 compat --list | --dump NAME",
  "",
  "Options:",
  ...optionRows(OPTIONS),
  "",
  "Each combination runs a guest's driver, a VMM's side of vhost and a device on",
  "real rings in shared memory, each as its profile says. A name without a slash",
  "is a built-in profile's; anything else is a file of the same form, which --dump",
  "shows and docs/profiles.md explains. docs/verdicts.md explains the verdicts.",
  "",
  "Examples:",
  "  bit33 compat --explain restricted-dma/crosvm-2022-07/linux-5.15",
  "  bit33 compat --before linux-5.10 --after linux-5.15 --mail report.mbox",
  "  bit33 compat --vmm ./my-vmm.yaml --fail-on faults,corrupts,exposes",
  "",
  "Exit status: 0 if all is well, 1 if a verdict got worse (--before, --after) or",
  "is one of --fail-on, 2 if the command line or a file has to be changed, or if",
  "there is nothing to compare or to judge.",
].join("\n");

const TITLES = { guest: "Guests", vmm: "VMMs", device: "Devices" } as const;

export async function compatCommand(
  argv: readonly string[],
  around: Surroundings = processSurroundings(),
): Promise<number> {
  if (hasSwitch(argv, "--help", "-h")) {
    around.terminal.print(HELP);
    return EXIT_OK;
  }
  try {
    return await answer(readRequest(readOptions(argv, OPTIONS)), around);
  } catch (error) {
    return reportFailure(error, around.terminal);
  }
}

async function answer(request: Request, around: Surroundings): Promise<number> {
  const { print } = around.terminal;
  switch (request.kind) {
    case "matrix":
      return answerMatrix(request, around);
    case "explain":
      return answerExplain(request, around);
    case "compare":
      return answerCompare(request, around);
    case "list": {
      const groups = PROFILE_KINDS.map((kind) => ({ title: TITLES[kind], profiles: builtinOf(kind) }));
      const lines = request.json ? listingJson(groups) : listing(groups, around.screen.width);
      for (const line of lines) print(line);
      return EXIT_OK;
    }
    case "dump":
      print(dumped(request.name).trimEnd());
      return EXIT_OK;
  }
}
