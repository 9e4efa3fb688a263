/** Values that several commands' options have: paths of sockets, numbers of seconds. Must not know any command. */
import { ConfigError } from "../config/errors.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../linux/socket-path.js";
import type { GivenOption } from "./options.js";

/** A path that a socket can have. Throws ConfigError. */
export function socketPathValue({ typed, value }: Pick<GivenOption<string>, "typed" | "value">): string {
  const bytes = Buffer.byteLength(value);
  if (bytes === 0) throw new ConfigError("value-missing", typed, "the path is empty; give a file name");
  if (bytes > LONGEST_SOCKET_PATH_BYTES) {
    const problem = `the path has ${bytes} bytes, a socket's has ${LONGEST_SOCKET_PATH_BYTES} at most; choose a shorter one`;
    throw new ConfigError("path-too-long", typed, problem);
  }
  return value;
}

/** A number of seconds, in milliseconds. Throws ConfigError. */
export function secondsValue(
  { typed, value }: GivenOption<string>,
  mostS: number,
  isZeroFine = false,
): number {
  const seconds = Number(value);
  const isEnough = isZeroFine ? seconds >= 0 : seconds > 0;
  if (value.trim() !== "" && isEnough && seconds <= mostS) return seconds * 1000;
  const range = isZeroFine ? `0 to ${mostS}` : `more than 0, up to ${mostS}`;
  const problem = `${JSON.stringify(value)} is no number of seconds; use ${range}`;
  throw new ConfigError("value-malformed", typed, problem);
}
