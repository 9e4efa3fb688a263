/**
 * What the starts of all sessions say of a VMM: its order of calls, its queues, what it waits for, what it refuses.
 */
import type { OrderEntry, Step, VmmProfile } from "../profiles/vmm-profile.js";
import { RING_STEPS, SETUP_STEPS } from "../profiles/vmm-profile.js";
import { has, PROTOCOL_F } from "../virtio/index.js";
import { startOrder } from "./facts.js";
import { type Finding, fits, isSame, isSameSet, seen, unseen } from "./finding.js";
import { isPlayed, refusalsOf } from "./refusals.js";
import { isTranslated, numberList, type Run, sessionList } from "./run.js";

export function asksDevice(run: Run): Finding<VmmProfile["asksDevice"]> {
  const asked = run.told.filter(({ askedFirst }) => askedFirst);
  if (asked.length === 0) return unseen("GET_FEATURES did not come first");
  return seen("before-guest", `${sessionList(asked)}: GET_FEATURES came before anything of the guest's`);
}

export function backendChannel(run: Run): Finding<VmmProfile["backendChannel"]> {
  const could = run.told.filter(({ protocolFeatures = 0n }) => has(protocolFeatures, PROTOCOL_F.BACKEND_REQ));
  const given = could.find(({ channel }) => channel !== "never");
  if (given !== undefined) {
    const when = given.channel === "in-order" ? "after" : "before";
    return seen(
      given.channel,
      `session ${given.record.number}: SET_BACKEND_REQ_FD came ${when} SET_FEATURES`,
    );
  }
  if (could.length > 0) return seen("never", `${sessionList(could)}: SET_BACKEND_REQ_FD did not come`);
  if (run.told.length === 0) return unseen("SET_FEATURES never came");
  return seen("never", `${sessionList(run.told)}: BACKEND_REQ is not taken`);
}

export function order(run: Run): Finding<readonly OrderEntry[]> {
  const best = run.best;
  if (best === undefined) return unseen("no start was seen");
  const order = startOrder(best);
  const because = `session ${best.record.number}: the messages of its start`;
  if (isTranslated(best)) return seen(order, because);
  const { base } = run;
  const isSameStart =
    base !== undefined &&
    isSame(
      base.order.filter((entry) => entry !== "used-rings"),
      order,
    );
  const note = `${because}; UPDATEs for used rings could not come there`;
  return isSameStart ? fits([base.order, order], note) : fits([order], note);
}

export function earlyRings({ best }: Run): Finding<VmmProfile["earlyRings"]> {
  if (best === undefined) return unseen("no start was seen");
  return seen(best.earlyRings, `session ${best.record.number}: ring steps before the start`);
}

export function queues(run: Run): Finding<2 | 3> {
  const best = run.best;
  if (best === undefined) return unseen("no start was seen");
  const { queues } = best;
  if (queues !== 2 && queues !== 3)
    return unseen(`session ${best.record.number}: ${queues} rings were started`);
  return seen(queues, `session ${best.record.number}: ${queues} rings were started`);
}

export function needReply(run: Run): Finding<readonly Step[]> {
  const could = run.started.filter(({ protocolFeatures = 0n }) =>
    has(protocolFeatures, PROTOCOL_F.REPLY_ACK),
  );
  const best = could.find((facts) => facts === run.best) ?? could[0];
  if (best === undefined) {
    if (run.started.length === 0) return unseen("no start was seen");
    return seen([], `${sessionList(run.started)}: REPLY_ACK is not taken`);
  }
  const steps = [...SETUP_STEPS, ...RING_STEPS].filter((step) => best.needReply.has(step));
  return seenSet(steps, run.base?.needReply, `session ${best.record.number}: messages with NEED_REPLY`);
}

export function memory(run: Run): Finding<VmmProfile["memory"]> {
  const facts = run.started.find(({ protocolFeatures = 0n }) =>
    has(protocolFeatures, PROTOCOL_F.CONFIGURE_MEM_SLOTS),
  );
  if (facts === undefined) return unseen("no start was seen in which CONFIGURE_MEM_SLOTS is taken");
  const memory = facts.addsSlots ? "slots" : "table";
  const message = facts.addsSlots ? "ADD_MEM_REG" : "SET_MEM_TABLE";
  return seen(memory, `session ${facts.record.number}: memory comes with ${message}`);
}

export function resetsDevice(run: Run): Finding<boolean> {
  const could = run.told.filter(({ protocolFeatures = 0n }) =>
    has(protocolFeatures, PROTOCOL_F.RESET_DEVICE),
  );
  if (could.length === 0) {
    return run.told.length === 0
      ? unseen("SET_FEATURES never came")
      : seen(false, `${sessionList(run.told)}: RESET_DEVICE is not taken`);
  }
  const resets = could.some(({ resetsBeforeStart }) => resetsBeforeStart);
  return seen(
    resets,
    `${sessionList(could)}: RESET_DEVICE ${resets ? "came" : "did not come"} before SET_FEATURES`,
  );
}

export function configFlags(run: Run): Finding<0 | 1> {
  const facts = run.all.find(({ configFlags }) => configFlags === 0 || configFlags === 1);
  if (facts === undefined) return unseen("GET_CONFIG never came");
  const flags = facts.configFlags === 1 ? 1 : 0;
  return seen(flags, `session ${facts.record.number}: GET_CONFIG with flags ${flags}`);
}

export function ringAddresses(run: Run): Finding<VmmProfile["ringAddresses"]> {
  for (const { ringAddresses, record } of run.on("plain")) {
    const classes = new Set(ringAddresses);
    if (classes.size !== 1) continue;
    const because = `session ${record.number}: compared with the memory table`;
    if (classes.has("user")) return seen("user", because);
    if (classes.has("guest-physical")) return seen("guest-physical", because);
  }
  return unseen("no start without translation, or user and guest-physical ranges overlap");
}

export function refuses(run: Run): Finding<VmmProfile["refuses"]> {
  if (run.started.length === 0) return unseen("no offer was taken");
  const found = refusalsOf(run.all);
  const viommu = run.hasPlayed("viommu");
  const kept = (run.base?.refuses ?? []).filter(({ when }) => !isPlayed(when, { viommu }));
  const because =
    found.length === 0
      ? "every offer was taken"
      : `${numberList(found.map(({ session }) => session))}: it left, and its program said so`;
  const note = kept.length === 0 ? "" : "; those on conditions that no session sets up are the base's";
  const refusals = [...found.map(({ refusal }) => refusal), ...kept];
  return seenSet(refusals, run.base?.refuses, because + note);
}

/** A list whose order says nothing: written in the order of the base, if that has the same. */
function seenSet<T>(
  found: readonly T[],
  ofBase: readonly T[] | undefined,
  because: string,
): Finding<readonly T[]> {
  return seen(ofBase !== undefined && isSameSet(ofBase, found) ? ofBase : found, because);
}
