/** Shorthands for the rules of cases: the documents by which back-ends are judged. */
import type { Rule } from "./case.js";

/** The document "Vhost-user Protocol" in QEMU's tree, docs/interop/vhost-user.rst. */
export function vhostUser(section: string, says: string): Rule {
  return { document: "vhost-user", section, says };
}

/** "Virtual I/O Device (VIRTIO)" of OASIS, version 1.4; sections by number and title. */
export function virtio(section: string, says: string): Rule {
  return { document: "VIRTIO 1.4", section, says };
}

/** Where no document decides: Linux and at least one other implementation do the same. */
export function agreed(says: string, ...places: readonly [string, string, ...string[]]): Rule {
  return { agreed: places, says };
}
