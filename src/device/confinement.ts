/** Whether the processes of VMs can be confined on this machine, and what follows if not. */
import { StartError } from "../config/errors.js";
import { landlockVersion } from "../linux/landlock.js";
import type { Logger } from "../log/logger.js";

/** If the kernel cannot, that is the end of the start if it `must`, and is logged otherwise. `version`: that of its Landlock, 0 for none. */
export function mayConfine(log: Logger, must: boolean, version: number = landlockVersion()): boolean {
  if (version > 0) return true;
  const problem = "this kernel has no Landlock, or it is switched off (lsm= on its command line)";
  if (must) throw new StartError("confinement-missing", "--confine", `${problem}; leave the option out`);
  const message = `${problem}: the processes of VMs may open whatever this user may`;
  log.log({ event: "not-confined", message });
  return false;
}
