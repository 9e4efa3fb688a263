/** Faults of what outlives a session, or leaves with it: inflight memory, the dirty log, the device's state. */
import type { Mutant } from "./mutant.js";

const LOGGING = "vhost/dirty-logging.js";

export const STATE_MUTANTS: readonly Mutant[] = [
  {
    name: "inflight-too-short",
    fault: "hands out an inflight file of 1 KiB, whatever the size that it names",
    file: "vhost/inflight.js",
    find: 'createMemfd("bit33-inflight", bytes)',
    replace: 'createMemfd("bit33-inflight", 1024)',
    cases: ["state.inflight-file"],
  },
  {
    name: "never-logged",
    fault: "marks nothing in the dirty log, LOG_ALL or not",
    file: LOGGING,
    find: "this.#isOn ? this.#log : undefined",
    replace: "undefined",
    cases: ["state.log-receive", "state.log-transmit"],
  },
  {
    name: "used-ring-not-logged",
    fault: "marks the buffers that it writes and not the used ring",
    file: "vhost/rings.js",
    find: "isLogged ? ringLog(",
    replace: "false ? ringLog(",
    cases: ["state.log-receive", "state.log-transmit"],
  },
  {
    name: "logged-for-ever",
    fault: "goes on with the dirty log when LOG_ALL is taken back",
    file: LOGGING,
    find: "this.#isOn ? this.#log",
    replace: "true ? this.#log",
    cases: ["state.log-stops"],
  },
  {
    name: "loaded-though-cut",
    fault: "says that a state was moved which it could not take in",
    file: "vhost/state-messages.js",
    find: 'status.state === "failed"',
    replace: "false",
    cases: ["state.cut"],
  },
  {
    name: "state-not-saved",
    fault: "saves nothing of the device's state",
    file: "vhost/session-core.js",
    find: "(device.saveState?.() ?? new Uint8Array(0))",
    replace: "new Uint8Array(0)",
    cases: ["state.moves"],
  },
];
