/**
 * The public surface of the conformance kit, `bit33/conformance`: cases as values, what they work with, and the runner.
 */
export {
  type ConformanceCase,
  describeRule,
  type FeatureName,
  type Needs,
  type ProtocolFeatureName,
  type Rule,
} from "./case.js";
export { CASES } from "./cases/index.js";
export { CaseContext, type Offer, type Target } from "./context.js";
export { assertWorks, call, exchange, join } from "./exchange.js";
export { Expect } from "./expect.js";
export { HostListener, HostPrograms, HostSocket } from "./host-programs.js";
export { CaseFailed, type CaseResult, CaseSkipped } from "./outcome.js";
export { RawConnection } from "./raw-connection.js";
export { type Packet, RawGuest, type RawGuestOptions } from "./raw-guest.js";
export { RawQueue } from "./raw-queue.js";
export { agreed, vhostUser, virtio } from "./rules.js";
export { type RunOptions, runCases } from "./run-cases.js";
export { TestMemory } from "./test-memory.js";
export { TracedSession } from "./traced-session.js";
