/**
 * `--user NAME|UID[:NAME|GID]`: who the process becomes once its sockets are made. Must not know what is served.
 */
import { readFileSync } from "node:fs";
import { ConfigError, StartError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { readGroup, type Setting } from "../../device/config/values.js";
import { forbidNewPrivileges } from "../../linux/privileges.js";

export interface User {
  readonly uid: number;
  readonly gid: number;
  /** As the operator wrote it, and where. */
  readonly text: string;
  readonly place: string;
}

/** The largest; -1 means "leave it" to setuid(2). */
const LARGEST_ID = 0xfffffffe;

export function readUser(
  { text, place }: Setting,
  passwdFile = "/etc/passwd",
  groupFile = "/etc/group",
): User {
  const colon = text.indexOf(":");
  const name = colon < 0 ? text : text.slice(0, colon);
  const entry = passwdEntry(name, passwdFile);
  const uid = entry?.uid ?? (/^\d+$/.test(name) ? Number(name) : undefined);
  if (uid === undefined || uid > LARGEST_ID) {
    const problem = `there is no user ${quoted(name)} in ${passwdFile}; create it, or give the user's number`;
    throw new ConfigError("user-unknown", place, problem);
  }
  if (uid === 0) {
    throw new ConfigError(
      "value-malformed",
      place,
      "root is not a user to give privileges up for; name another",
    );
  }
  const gid = colon < 0 ? entry?.gid : readGroup({ text: text.slice(colon + 1), place }, groupFile);
  if (gid === undefined) {
    const problem = `user ${uid} is not in ${passwdFile}, so its group is not known; give ${uid}:GROUP`;
    throw new ConfigError("value-malformed", place, problem);
  }
  return { uid, gid, text, place };
}

/** passwd(5): `name:password:UID:GID:...`, by name or number. A file that cannot be read knows nobody. */
function passwdEntry(name: string, file: string): { readonly uid: number; readonly gid: number } | undefined {
  let content: string;
  try {
    content = readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
  const fields = content.split("\n").map((line) => line.split(":"));
  const found = fields.find((entry) => entry[0] === name) ?? fields.find((entry) => entry[2] === name);
  if (found === undefined || !/^\d+$/.test(found[2] ?? "") || !/^\d+$/.test(found[3] ?? "")) return undefined;
  return { uid: Number(found[2]), gid: Number(found[3]) };
}

/** For the whole process, and for good: user, group, all other groups, and what programs could gain by their files. */
export function becomeUser({ uid, gid, text, place }: User): void {
  const { setgroups, setgid, setuid, getuid } = process;
  if (setgroups === undefined || setgid === undefined || setuid === undefined || getuid === undefined) {
    throw new StartError("user-not-changed", place, "this system knows no users");
  }
  try {
    setgroups([gid]);
    setgid(gid);
    setuid(uid);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const problem = `cannot become ${text} (${reason}); start as root, or leave it out`;
    throw new StartError("user-not-changed", place, problem, { cause });
  }
  forbidNewPrivileges();
}
