/**
 * Sockets that the service manager passes on at the start (sd_listen_fds(3)): descriptors from 3 on, as many as LISTEN_FDS
 * says, if LISTEN_PID is this process, with the names of LISTEN_FDNAMES, which say whose and what they are. Must not know
 * what a socket has to be (`device/given-sockets.ts`).
 */
import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { didYouMean } from "../../config/suggest.js";
import type { VmConfig } from "../../device/config/vm-config.js";
import type { GivenSocket, GivenSockets } from "../../device/given-sockets.js";

const FIRST_FD = 3;
const PLACE = "LISTEN_FDNAMES";
const NAMES = "vmCID-socket, vmCID-uds-path, vmCID-seqpacket, vmCID-listen-GUESTPORT";

type Mutable = { -readonly [Key in keyof GivenSockets]: GivenSockets[Key] };

/** The descriptors with their names; none if there are none for this process. Takes the variables away, so that nobody else finds them. */
export function takePassedSockets(environment: NodeJS.ProcessEnv, pid: number): GivenSocket[] {
  const { LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES } = environment;
  if (LISTEN_PID !== String(pid)) return [];
  for (const name of ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"]) delete environment[name];
  if (LISTEN_FDS === undefined || !/^\d{1,5}$/.test(LISTEN_FDS))
    throw new ConfigError(
      "value-malformed",
      "LISTEN_FDS",
      `${quoted(LISTEN_FDS ?? "")} is no number of descriptors`,
    );
  const names = LISTEN_FDNAMES?.split(":") ?? [];
  return Array.from({ length: Number(LISTEN_FDS) }, (_, index) => ({
    fd: FIRST_FD + index,
    // What systemd calls a socket without a name.
    name: names[index] ?? "unknown",
  }));
}

/** To which VM each of them belongs, by CID. Throws a ConfigError for a name that says nothing, or too much. */
export function assignSockets(
  passed: readonly GivenSocket[],
  configs: readonly VmConfig[],
): ReadonlyMap<number, GivenSockets> {
  const given = new Map<number, Mutable>();
  for (const socket of passed) {
    const { cid, role, port } = readName(socket.name);
    const config = configs.find(({ guestCid }) => guestCid === cid);
    if (config === undefined) {
      const served = configs.map(({ guestCid }) => guestCid).join(", ");
      refuse(
        `${quoted(socket.name)} is for a VM with CID ${cid}, and there is none; there are ${served || "none"}`,
      );
    }
    const sockets: Mutable = given.get(cid) ?? { listens: [] };
    given.set(cid, sockets);
    if (role === "listen") {
      sockets.listens = [...sockets.listens, { ...socket, guestPort: port }];
      continue;
    }
    if (sockets[role] !== undefined)
      refuse(`${quoted(socket.name)} is passed twice; one unit, one ListenStream= for it`);
    if (role === "vmm" && config.socketPath === undefined)
      refuse(`${quoted(socket.name)} is passed, and --fd is the VMM's socket already; leave one out`);
    if (role === "seqpacket" && !config.seqpacket)
      refuse(`${quoted(socket.name)} is passed, and seqpacket=off; leave one out`);
    sockets[role] = socket;
  }
  return given;
}

const ROLES = { socket: "vmm", "uds-path": "hybrid", seqpacket: "seqpacket", listen: "listen" } as const;
const LAST_VSOCK_PORT = 4294967294;

function readName(name: string): {
  readonly cid: number;
  readonly role: (typeof ROLES)[keyof typeof ROLES];
  readonly port: number;
} {
  const [, cid, role, port] =
    /^vm(\d{1,10})-(socket|uds-path|seqpacket|listen(?=-))(?:-(\d{1,10}))?$/.exec(name) ?? [];
  if (
    cid === undefined ||
    (role === "listen") !== (port !== undefined) ||
    Number(port ?? 0) > LAST_VSOCK_PORT
  ) {
    const word = /^vm\d+-(.*)$/.exec(name)?.[1];
    const hint = word === undefined ? "" : didYouMean(word, Object.keys(ROLES));
    refuse(
      `a socket is named ${quoted(name)}, which says nothing here${hint}; set FileDescriptorName= to one of ${NAMES}`,
    );
  }
  return { cid: Number(cid), role: ROLES[role as keyof typeof ROLES], port: Number(port ?? 0) };
}

function refuse(problem: string): never {
  throw new ConfigError("socket-name-unknown", PLACE, problem);
}
