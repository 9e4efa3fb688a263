/** Every lint by its id. An id is a promise: it is never renamed and never changes its severity. */
import type { LintTable } from "./lint.js";

export const LINTS: LintTable = {};
