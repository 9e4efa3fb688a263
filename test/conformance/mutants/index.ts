/** Every deliberate fault, in the order in which the page shows them. */
import type { Mutant } from "./mutant.js";
import { RING_MUTANTS } from "./rings.js";
import { SESSION_MUTANTS } from "./session.js";
import { STATE_MUTANTS } from "./state.js";
import { TRANSLATION_MUTANTS } from "./translation.js";
import { VSOCK_MUTANTS } from "./vsock.js";

export const MUTANTS: readonly Mutant[] = [
  ...SESSION_MUTANTS,
  ...RING_MUTANTS,
  ...TRANSLATION_MUTANTS,
  ...VSOCK_MUTANTS,
  ...STATE_MUTANTS,
];
