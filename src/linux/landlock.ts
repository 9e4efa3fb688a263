/**
 * Landlock: a thread gives up, for itself, its children and whatever it executes, all of the file system and all of TCP but
 * what it names (Linux, Documentation/userspace-api/landlock.rst; include/uapi/linux/landlock.h). It takes no privilege.
 * Must not know what anybody needs.
 */
import { closeSync, openSync, statSync } from "node:fs";
import { checked } from "./errors.js";
import { libcCalls } from "./libc.js";
import { forbidNewPrivileges } from "./privileges.js";
import { setupScratch } from "./scratch.js";

/** The same on every architecture: they came after the numbers were made one. */
const SYS_LANDLOCK_CREATE_RULESET = 444;
const SYS_LANDLOCK_ADD_RULE = 445;
const SYS_LANDLOCK_RESTRICT_SELF = 446;
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_RULE_PATH_BENEATH = 1;
const LANDLOCK_RULE_NET_PORT = 2;
const O_PATH = 0o10000000;

const FS_EXECUTE = 1 << 0;
const FS_WRITE_FILE = 1 << 1;
const FS_READ_FILE = 1 << 2;
const FS_READ_DIR = 1 << 3;
const NET_CONNECT_TCP = 1 << 1;

/** How many rights of the file system each version of the interface knows: LANDLOCK_ACCESS_FS_EXECUTE is the first. */
const FS_RIGHTS_BY_VERSION = [0, 13, 14, 15, 15, 16] as const;
/** BIND_TCP and CONNECT_TCP. */
const NET_VERSION = 4;
const NET_RIGHTS = 0b11;
/** Abstract Unix sockets of others, and signals to others. */
const SCOPE_VERSION = 6;
const SCOPES = 0b11;

/** What stays open to a confined process, beside the descriptors that it has already. */
export interface Confinement {
  /** Files, or folders with all below them, that may be read. One that does not exist is passed over. */
  readonly readable: readonly string[];
  /** The same, that may be mapped and executed, too. */
  readonly executable: readonly string[];
  readonly writable: readonly string[];
  /** TCP ports that may be connected to, at any address. */
  readonly tcpPorts: readonly number[];
}

/** The version of the kernel's interface, 0 if there is none: older than 5.13, not built in, or switched off. */
export function landlockVersion(): number {
  const version = libcCalls.syscall(SYS_LANDLOCK_CREATE_RULESET, 0, 0, LANDLOCK_CREATE_RULESET_VERSION, 0);
  return Math.max(version, 0);
}

/** Confines the calling thread, for good. Throws if the kernel cannot, or a path may not even be looked at. */
export function confineThread({ readable, executable, writable, tcpPorts }: Confinement): void {
  const version = landlockVersion();
  const { data, address } = setupScratch;
  const handled = 2 ** (FS_RIGHTS_BY_VERSION[version] ?? FS_RIGHTS_BY_VERSION[5]) - 1;
  // struct landlock_ruleset_attr { u64 handled_access_fs, handled_access_net, scoped; }; what is 0 an older kernel ignores.
  data.setBigUint64(0, BigInt(handled), true);
  data.setBigUint64(8, version >= NET_VERSION ? BigInt(NET_RIGHTS) : 0n, true);
  data.setBigUint64(16, version >= SCOPE_VERSION ? BigInt(SCOPES) : 0n, true);
  const ruleset = checked(
    libcCalls.syscall(SYS_LANDLOCK_CREATE_RULESET, address, 24, 0, 0),
    "landlock_create_ruleset",
  );
  try {
    for (const path of readable) allowPath(ruleset, path, FS_READ_FILE | FS_READ_DIR);
    for (const path of executable) allowPath(ruleset, path, FS_READ_FILE | FS_EXECUTE);
    for (const path of writable) allowPath(ruleset, path, FS_READ_FILE | FS_WRITE_FILE);
    if (version >= NET_VERSION) for (const port of tcpPorts) allowPort(ruleset, port);
    forbidNewPrivileges();
    checked(libcCalls.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0, 0), "landlock_restrict_self");
  } finally {
    closeSync(ruleset);
  }
}

/** struct landlock_path_beneath_attr { u64 allowed_access; s32 parent_fd; }, packed: 12 bytes. */
function allowPath(ruleset: number, path: string, rights: number): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const fd = openSync(path, O_PATH);
  try {
    const { data, address } = setupScratch;
    data.setBigUint64(0, BigInt(stat.isDirectory() ? rights : rights & ~FS_READ_DIR), true);
    data.setInt32(8, fd, true);
    const result = libcCalls.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, address, 0);
    checked(result, "landlock_add_rule", path);
  } finally {
    closeSync(fd);
  }
}

/** struct landlock_net_port_attr { u64 allowed_access, port; } */
function allowPort(ruleset: number, port: number): void {
  const { data, address } = setupScratch;
  data.setBigUint64(0, BigInt(NET_CONNECT_TCP), true);
  data.setBigUint64(8, BigInt(port), true);
  const result = libcCalls.syscall(SYS_LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_NET_PORT, address, 0);
  checked(result, "landlock_add_rule", `TCP port ${port}`);
}
