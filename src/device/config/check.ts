/**
 * The rules that the configuration of one process must keep, for the command line and the library alike:
 * ranges of numbers, CIDs and paths that may not meet, directories that must be there, paths that fit into a
 * Unix socket's address. It looks at directories and creates nothing.
 * Whether a socket path is in use is seen by the device's start code, which also binds it.
 */

import { realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../../linux/socket-path.js";
import { explicitIotlbBitProblem, GUEST_CIDS, guestCidProblem } from "../../virtio/index.js";
import type { PlacedVmConfig } from "./settings.js";
import { LONGEST_PORT_SUFFIX, SEQPACKET_SUFFIX, VM_LIMITS, type VmConfig } from "./vm-config.js";

export interface CheckOptions {
  /** The vhost-user socket is inherited as this descriptor, so one VM is served and no socket made for it. */
  readonly fd?: number | undefined;
  /** False if no socket for host programs is made, and `udsPath` means nothing. */
  readonly hybrid?: boolean;
}

/** Throws a ConfigError for the first rule that is broken; returns if the VMs can be served together. */
export function checkVmConfigs(
  vms: readonly PlacedVmConfig[],
  { fd, hybrid = true }: CheckOptions = {},
): void {
  checkWhoListens(vms, fd);
  for (const vm of vms) {
    checkNumbers(vm);
    if (hybrid) checkPath(vm, "udsPath", LONGEST_PORT_SUFFIX);
    if (vm.config.socketPath !== undefined) checkPath(vm, "socketPath", "");
    for (const path of listenPaths(vm.config)) checkDirectory(dirname(path), vm.placeOf("listens"));
  }
  checkCidsDiffer(vms);
  if (hybrid) checkPathsKeepApart(vms);
}

/** For configurations made by a program: the places are `vms[0].guestCid` and so on. */
export function placedByField(configs: readonly VmConfig[]): PlacedVmConfig[] {
  return configs.map((config, index) => ({ config, placeOf: (field) => `vms[${index}].${field}` }));
}

/** vhost-user document, "Backend program conventions": `--fd` and `--socket-path` exclude each other. */
function checkWhoListens(vms: readonly PlacedVmConfig[], fd: number | undefined): void {
  if (fd !== undefined && vms.length > 1) {
    const problem = `one inherited socket serves one VM, and ${vms.length} are described; leave --fd out`;
    throw new ConfigError("fd-conflict", `--fd ${fd}`, problem);
  }
  for (const { config, placeOf } of vms) {
    if (fd === undefined && config.socketPath === undefined) {
      const problem = "socket is missing; give the path of the Unix socket that the VMM connects to";
      throw new ConfigError("key-missing", placeOf("socketPath"), problem);
    }
    if (fd !== undefined && config.socketPath !== undefined) {
      const problem =
        `a socket path cannot be combined with --fd ${fd}, which is the vhost-user socket already; ` +
        "leave one out";
      throw new ConfigError("fd-conflict", placeOf("socketPath"), problem);
    }
  }
}

function checkNumbers({ config, placeOf }: PlacedVmConfig): void {
  checkCid(config.guestCid, placeOf("guestCid"));
  for (const field of Object.keys(VM_LIMITS) as (keyof typeof VM_LIMITS)[]) {
    const [smallest, largest] = VM_LIMITS[field];
    const value = config[field];
    if (value === undefined) continue;
    if (!Number.isInteger(value) || value < smallest || value > largest) {
      const problem = `${value} is out of range; give a whole number from ${smallest} to ${largest}`;
      throw new ConfigError("value-out-of-range", placeOf(field), problem);
    }
  }
  const bitProblem = explicitIotlbBitProblem(config.explicitBit);
  if (bitProblem !== undefined) {
    throw new ConfigError(
      "value-out-of-range",
      placeOf("explicitBit"),
      `${bitProblem}; give a free one, such as 62`,
    );
  }
  const { queueSize } = config;
  if ((queueSize & (queueSize - 1)) !== 0) {
    const lower = 2 ** Math.floor(Math.log2(queueSize));
    const problem = `${queueSize} is not a power of two; give ${lower} or ${lower * 2}`;
    throw new ConfigError("value-out-of-range", placeOf("queueSize"), problem);
  }
}

function checkCid(cid: number, place: string): void {
  const problem = guestCidProblem(cid);
  if (problem === undefined) return;
  const { first, last } = GUEST_CIDS;
  throw new ConfigError("cid-reserved", place, `${problem}; choose one from ${first} to ${last}`);
}

function checkPath(vm: PlacedVmConfig, field: "socketPath" | "udsPath", suffix: string): void {
  const path = vm.config[field] ?? "";
  const place = vm.placeOf(field);
  const lengthBytes = Buffer.byteLength(path + suffix);
  if (path === "" || path.includes("\0")) {
    throw new ConfigError("value-malformed", place, `${quoted(path)} is not a path; give a file name`);
  }
  if (lengthBytes > LONGEST_SOCKET_PATH_BYTES) {
    const withSuffix = suffix === "" ? "" : ` once ${suffix} is added`;
    const problem =
      `the path has ${lengthBytes} bytes${withSuffix}, and a Unix socket's may have ` +
      `${LONGEST_SOCKET_PATH_BYTES}; use a shorter one`;
    throw new ConfigError("path-too-long", place, problem);
  }
  checkDirectory(dirname(path), place);
}

function checkDirectory(directory: string, place: string): void {
  const refuse = (problem: string, cause?: unknown) => {
    throw new ConfigError("directory-missing", place, problem, { cause });
  };
  try {
    if (!statSync(directory).isDirectory())
      refuse(`${quoted(directory)} is not a directory; choose another path`);
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    const code = errnoOf(cause);
    if (code === "ENOENT") {
      refuse(`the directory ${quoted(directory)} does not exist; create it first`, cause);
    }
    refuse(`the directory ${quoted(directory)} cannot be used (${code}); choose another path`, cause);
  }
}

function checkCidsDiffer(vms: readonly PlacedVmConfig[]): void {
  const seen = new Map<number, string>();
  for (const { config, placeOf } of vms) {
    const place = placeOf("guestCid");
    const firstPlace = seen.get(config.guestCid);
    if (firstPlace !== undefined) {
      const problem = `CID ${config.guestCid} is given twice, first by ${firstPlace}; each VM needs its own guest-cid`;
      throw new ConfigError("cid-twice", place, problem);
    }
    seen.set(config.guestCid, place);
  }
}

interface MadeSocket {
  readonly path: string;
  /** The same for two spellings of one file. */
  readonly identity: string;
  readonly place: string;
}

/** No two sockets at one path, and none at `<uds-path>_<port>`: there a guest itself would connect to it. */
function checkPathsKeepApart(vms: readonly PlacedVmConfig[]): void {
  const made: MadeSocket[] = [];
  for (const vm of vms) {
    for (const [field, path] of pathsOf(vm.config)) {
      const socket = { path, identity: identityOf(path), place: vm.placeOf(field) };
      const same = made.find((other) => other.identity === socket.identity);
      if (same !== undefined) {
        const problem = `${quoted(path)} is given twice, first by ${same.place}; each socket needs its own path`;
        throw new ConfigError("path-twice", socket.place, problem);
      }
      made.push(socket);
    }
  }
  for (const { config } of vms) {
    const prefix = `${identityOf(config.udsPath)}_`;
    for (const { path, identity, place } of made) {
      if (!identity.startsWith(prefix) || !isPort(identity.slice(prefix.length))) continue;
      const port = identity.slice(prefix.length);
      const problem =
        `the guest with CID ${config.guestCid} would reach ${quoted(path)} by connecting to port ${port}; ` +
        "choose another name";
      throw new ConfigError("path-reachable-by-guest", place, problem);
    }
  }
}

/** Each socket that is made, with the field that says so. */
function pathsOf(config: VmConfig): ["socketPath" | "udsPath" | "listens", string][] {
  const { socketPath, udsPath, seqpacket } = config;
  const paths: ["socketPath" | "udsPath" | "listens", string][] = [["udsPath", udsPath]];
  if (socketPath !== undefined) paths.unshift(["socketPath", socketPath]);
  if (seqpacket) paths.push(["udsPath", `${udsPath}${SEQPACKET_SUFFIX}`]);
  for (const path of listenPaths(config)) paths.push(["listens", path]);
  return paths;
}

function listenPaths({ listens }: VmConfig): string[] {
  return listens.flatMap(({ source }) => (source.kind === "unix" ? [source.path] : []));
}

function isPort(text: string): boolean {
  return /^(0|[1-9]\d{0,9})$/.test(text) && Number(text) <= 0xffffffff;
}

/** The directory exists (checked before), so links in it can be followed; the file itself may not exist. */
function identityOf(path: string): string {
  return join(realpathSync(dirname(resolve(path))), basename(path));
}

function errnoOf(cause: unknown): string {
  return cause instanceof Error && "code" in cause ? String(cause.code) : String(cause);
}
