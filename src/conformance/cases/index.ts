/** Every case that there is, family by family. */
import type { ConformanceCase } from "../case.js";
import { MEMORY_CASES } from "./memory.js";
import { RING_CASES } from "./rings.js";
import { SESSION_CASES } from "./session.js";
import { TRANSLATION_CASES } from "./translation.js";

export const CASES: readonly ConformanceCase[] = [
  ...SESSION_CASES,
  ...MEMORY_CASES,
  ...RING_CASES,
  ...TRANSLATION_CASES,
];
