/**
 * Which VMs are siblings, and which have to be served by one thread for it: two VMs are siblings if they have a group in
 * common, as vhost-device-vsock has it, and VMs that are connected by siblings share a thread, so that one thread alone
 * touches the memory of each. Must not know how traffic between guests goes.
 */
import { ConfigError } from "../../config/errors.js";
import { VM_DEFAULTS, type VmConfig } from "./vm-config.js";

/** Where devices run. A thread shares the process's memory with the other VMs' devices. */
export const ISOLATIONS = ["thread", "process"] as const;
export type Isolation = (typeof ISOLATIONS)[number];

type GroupedVm = Pick<VmConfig, "guestCid" | "groups">;

/** VMs that one thread is to serve. */
export interface Household<Vm extends GroupedVm> {
  /** Those among them that are served already: by this thread. */
  readonly joins: number | undefined;
  readonly vms: readonly Vm[];
}

/**
 * The groups that count. The one that every VM is in unless it says otherwise makes no siblings of VMs whose operator
 * wants each to have a process of its own.
 */
export function groupsOf({ groups }: Pick<VmConfig, "groups">, isolate: Isolation): string[] {
  const unasked: readonly string[] = VM_DEFAULTS.groups;
  return isolate === "process" ? groups.filter((name) => !unasked.includes(name)) : groups;
}

/**
 * Puts VMs that are to be served into households; `served` are those that there are. Throws a ConfigError if two that
 * there are would have to become one, or if one in a process would have to grow.
 */
export function households<Vm extends GroupedVm>(
  served: readonly (readonly GroupedVm[])[],
  vms: readonly Vm[],
  isolate: Isolation,
): Household<Vm>[] {
  interface Draft {
    readonly joins: number | undefined;
    readonly groups: readonly string[];
    readonly vms: readonly Vm[];
  }
  let drafts: Draft[] = served.map((members, index) => ({
    joins: index,
    groups: members.flatMap((vm) => groupsOf(vm, isolate)),
    vms: [],
  }));
  for (const vm of vms) {
    const groups = groupsOf(vm, isolate);
    const related = drafts.filter((draft) => draft.groups.some((name) => groups.includes(name)));
    const joined = related.flatMap(({ joins }) => joins ?? []);
    if (joined.length > 1 || (joined.length === 1 && isolate === "process"))
      throw cannotJoin(
        vm,
        groups,
        joined.flatMap((index) => served[index]),
        isolate,
      );
    const merged: Draft = {
      joins: joined[0],
      groups: [...groups, ...related.flatMap((draft) => draft.groups)],
      vms: [...related.flatMap((draft) => draft.vms), vm],
    };
    drafts = [...drafts.filter((draft) => !related.includes(draft)), merged];
  }
  return drafts.filter((draft) => draft.vms.length > 0).map(({ joins, vms }) => ({ joins, vms }));
}

/** Only a VM that is added while others run can have this trouble. */
function cannotJoin(
  { guestCid }: GroupedVm,
  groups: readonly string[],
  served: readonly GroupedVm[],
  isolate: Isolation,
): ConfigError {
  const siblings = served.filter((vm) => vm.groups.some((name) => groups.includes(name)));
  const cids = siblings.map((vm) => vm.guestCid).join(", ");
  const names = groups.filter((name) => siblings.some((vm) => vm.groups.includes(name))).join("+");
  const why =
    isolate === "process"
      ? "siblings share a process, which takes no VM in once it runs; give other groups, or start them together"
      : "these run in threads of their own, and siblings share one; give other groups, or start them together";
  return new ConfigError(
    "siblings-apart",
    "add (groups)",
    `VM ${guestCid} would be a sibling of ${cids} (${names}), and ${why}`,
  );
}
