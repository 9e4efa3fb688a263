/**
 * Which VMs ask to be siblings: vhost-device-vsock lets VMs with a group in common talk to each other. The group that
 * every VM is in unless it says otherwise asks for nothing. Must not know how traffic between guests would go.
 */
import { VM_DEFAULTS, type VmConfig } from "./vm-config.js";

export interface Siblings {
  /** Groups with more than one member, in the order in which they are first named. */
  readonly groups: readonly string[];
  /** CIDs of their members, in the order of the configuration. */
  readonly cids: readonly number[];
}

/** The VMs that share a group of their own, or undefined if none do. */
export function siblingsOf(configs: readonly Pick<VmConfig, "guestCid" | "groups">[]): Siblings | undefined {
  const unasked: readonly string[] = VM_DEFAULTS.groups;
  const named = new Set(configs.flatMap(({ groups }) => groups));
  const groups = [...named].filter(
    (name) => !unasked.includes(name) && configs.filter((config) => config.groups.includes(name)).length > 1,
  );
  if (groups.length === 0) return undefined;
  const members = configs.filter((config) => config.groups.some((name) => groups.includes(name)));
  return { groups, cids: members.map(({ guestCid }) => guestCid) };
}
