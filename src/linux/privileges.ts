/** Privileges of this process that are given up for good. To be called on the main thread before there are others. */
import { checked } from "./errors.js";
import { libcCalls } from "./libc.js";

const PR_SET_NO_NEW_PRIVS = 38;

/** No program that this thread, or one that it starts, executes from now on gains rights by its file (prctl(2)). */
export function forbidNewPrivileges(): void {
  checked(libcCalls.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl", "PR_SET_NO_NEW_PRIVS");
}
