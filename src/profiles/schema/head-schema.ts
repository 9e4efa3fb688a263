/** The keys that every profile has. */
import type { Evidence, ProfileHead, Transport } from "../head.js";
import { type Fields, listOf } from "./collections.js";
import { choice, profileName, text } from "./scalars.js";

export const HEAD: Fields<ProfileHead> = {
  name: { help: "How commands and records call it.", shape: profileName() },
  program: { help: "The program and its version, as its makers would name it.", shape: text() },
  summary: { help: "One sentence for a list.", shape: text() },
  source: {
    help: "Where each claim can be checked: program, version or commit, file.",
    shape: listOf(text(), { notation: "a list of sources, one at least", least: 1 }),
  },
  evidence: {
    help: "What stands behind it.",
    shape: choice<Evidence>({
      executed: "A test of this project compares the profile with the real program.",
      derived: "Read from the program's source, which `source` names.",
      proposed: "Nobody has built it: a proposal from a discussion, or a draft.",
    }),
    optional: { meaning: "`derived`", value: "derived" },
  },
};

export const TRANSPORT = choice<Transport>({
  kernel: "ioctls on /dev/vhost-vsock.",
  "vhost-user": "Messages on a Unix socket.",
});
