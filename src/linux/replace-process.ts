/** execve(2): this process becomes another program, with the descriptors that it names. */
import { checked } from "./errors.js";
import { execve, libcCalls } from "./libc.js";

const F_SETFD = 2;

/** All threads but the calling one end; returns only by throwing. `descriptors` stay open, beside 0 to 2. */
export function replaceProcess(
  file: string,
  argv: readonly string[],
  environment: NodeJS.ProcessEnv,
  descriptors: readonly number[],
): never {
  for (const fd of [0, 1, 2, ...descriptors]) checked(libcCalls.fcntl(fd, F_SETFD, 0), "fcntl", `fd ${fd}`);
  const pairs = Object.entries(environment).map(([name, value]) => `${name}=${value ?? ""}`);
  checked(execve(file, [file, ...argv, null], [...pairs, null]), "execve", file);
  throw new Error("execve(2) has returned");
}
