/**
 * The notation of `forward`: `22=tcp:127.0.0.1:22`, `80=unix:/run/web.sock`, where the first `=` ends the port; and that of
 * `listen`, which is the other way round: `tcp:127.0.0.1:2222=22`, where the last one begins it. Everything behind the
 * kind's colon is taken as it is; nothing is unquoted. Must not know how a connection is made.
 */
import { isIP, isIPv6 } from "node:net";
import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { LONGEST_SOCKET_PATH_BYTES } from "../../linux/socket-path.js";
import type { Setting } from "./values.js";

/** Where the guest's connections to one port of the host go. */
export interface Forward {
  /** The port that the guest connects to, on CID 2. */
  readonly hostPort: number;
  readonly target:
    | { readonly kind: "tcp"; readonly address: string; readonly port: number }
    | { readonly kind: "unix"; readonly path: string }
    /** For the shell, a process a connection. */
    | { readonly kind: "exec"; readonly command: string };
}

/** VMADDR_PORT_ANY, 4294967295, is not a port. */
const LAST_VSOCK_PORT = 4294967294;
const LAST_TCP_PORT = 65535;

/** In the order given; a port twice is a mistake. */
export function readForwards(settings: readonly Setting[]): Forward[] {
  const places = new Map<number, string>();
  return settings.map((setting) => {
    const forward = readForward(setting);
    const first = places.get(forward.hostPort);
    if (first !== undefined) {
      const problem = `port ${forward.hostPort} is forwarded twice for the same VM; keep one of them`;
      throw new ConfigError("value-conflict", setting.place, problem);
    }
    places.set(forward.hostPort, setting.place);
    return forward;
  });
}

/** A socket of the host that stands for a port of the guest. */
export interface Listen {
  readonly source:
    | { readonly kind: "tcp"; readonly address: string; readonly port: number }
    | { readonly kind: "unix"; readonly path: string };
  /** The port of the guest that who connects there is connected to. */
  readonly guestPort: number;
}

/** Several sockets may stand for one port. */
export function readListens(settings: readonly Setting[]): Listen[] {
  return settings.map(({ text, place }) => {
    const [, kind, source, portText] = /^(?:([a-z]+):)?([\s\S]*)=([^=]*)$/.exec(text) ?? [];
    if (source === undefined)
      return refuse(place, text, "write tcp:ADDRESS:PORT=GUESTPORT or unix:PATH=GUESTPORT");
    const guestPort = readVsockPort(portText, place, "the guest's port");
    if (kind === "tcp") return { source: readTcp(source, place, 0), guestPort };
    if (kind === "unix") return { source: readUnix(source, place), guestPort };
    return refuse(place, text, "what to listen on begins with tcp: or unix:");
  });
}

/** As one would write it, without the guest's port. */
export function describeSource(source: Listen["source"]): string {
  if (source.kind === "unix") return `unix:${source.path}`;
  const { address, port } = source;
  return isIPv6(address) ? `tcp:[${address}]:${port}` : `tcp:${address}:${port}`;
}

function readVsockPort(text: string, place: string, what: string): number {
  if (/^\d{1,10}$/.test(text) && Number(text) <= LAST_VSOCK_PORT) return Number(text);
  return refuse(place, text, `give ${what}, 0 to ${LAST_VSOCK_PORT}`);
}

function readForward({ text, place }: Setting): Forward {
  const [, portText, kind, target] = /^([^=]*)=(?:([a-z]+):)?([\s\S]*)$/.exec(text) ?? [];
  if (portText === undefined)
    return refuse(place, text, "write PORT=tcp:ADDRESS:PORT, PORT=unix:PATH or PORT=exec:COMMAND");
  const hostPort = readVsockPort(portText, place, "the port that the guest connects to");
  if (kind === "tcp") return { hostPort, target: readTcp(target, place) };
  if (kind === "unix") return { hostPort, target: readUnix(target, place) };
  if (kind === "exec") return { hostPort, target: readCommand(target, place) };
  return refuse(place, text, "the target begins with tcp:, unix: or exec:");
}

interface Tcp {
  readonly kind: "tcp";
  readonly address: string;
  readonly port: number;
}

/** `leastPort`: 0 if any free one may be had. */
function readTcp(text: string, place: string, leastPort = 1): Tcp {
  const [, host, portText] = /^(.*):(\d{1,5})$/.exec(text) ?? [];
  const port = Number(portText);
  if (host === undefined || port < leastPort || port > LAST_TCP_PORT)
    return refuse(place, text, `write tcp:ADDRESS:PORT with a port from ${leastPort} to ${LAST_TCP_PORT}`);
  const inBrackets = /^\[(.*)\]$/.exec(host)?.[1];
  const address = host === "localhost" ? "127.0.0.1" : (inBrackets ?? host);
  if (isIP(address) === 0 || address.includes("%") || isIPv6(address) !== (inBrackets !== undefined)) {
    const advice =
      "give an address such as 127.0.0.1 or [::1]; names are not looked up, since that would block";
    return refuse(place, host, advice);
  }
  return { kind: "tcp", address, port };
}

function readUnix(path: string, place: string): { readonly kind: "unix"; readonly path: string } {
  const lengthBytes = Buffer.byteLength(path);
  if (lengthBytes === 0 || lengthBytes > LONGEST_SOCKET_PATH_BYTES || path.includes("\0"))
    return refuse(place, path, `give the path of a Unix socket, 1 to ${LONGEST_SOCKET_PATH_BYTES} bytes`);
  return { kind: "unix", path };
}

function readCommand(command: string, place: string): Forward["target"] {
  if (command.trim() === "" || command.includes("\0"))
    return refuse(place, command, "give a command for /bin/sh");
  return { kind: "exec", command };
}

function refuse(place: string, text: string, advice: string): never {
  throw new ConfigError("value-malformed", place, `${quoted(text)} cannot be used; ${advice}`);
}
