/**
 * TCP sockets by descriptor, for connections that are made without blocking. Addresses are numbers: a name would have to
 * be looked up, and that blocks.
 */
import { isIPv6 } from "node:net";
import { orErrno } from "./errors.js";
import { libcCalls } from "./libc.js";
import { setupScratch } from "./scratch.js";

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const SOCK_NONBLOCK = 0o4000;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const OPTION_AT = 64;

export interface TcpAddress {
  /** IPv4 in dots, or IPv6 in colons. */
  readonly address: string;
  readonly port: number;
}

/**
 *     struct sockaddr_in  { sa_family_t family; in_port_t port; struct in_addr addr; char zero[8]; };                16 bytes
 *     struct sockaddr_in6 { sa_family_t family; in_port_t port; uint32_t flowinfo; struct in6_addr addr; uint32_t scope; };  28
 *
 * Lays the address out in the set-up scratch and returns its length. Port and address are big-endian.
 */
function putAddress({ address, port }: TcpAddress): number {
  const { data, bytes } = setupScratch;
  bytes.fill(0, 0, 28);
  data.setUint16(2, port);
  if (!isIPv6(address)) {
    data.setUint16(0, AF_INET, true);
    bytes.set(address.split(".").map(Number), 4);
    return 16;
  }
  data.setUint16(0, AF_INET6, true);
  groupsOf(address).forEach((group, index) => {
    data.setUint16(8 + 2 * index, group);
  });
  return 28;
}

/** The eight groups of an IPv6 address, which the URL parser writes in its one canonical form. */
function groupsOf(address: string): number[] {
  const canonical = new URL(`tcp://[${address}]`).hostname.slice(1, -1);
  const [head, tail] = canonical.split("::").map((part) => part.split(":").filter((group) => group !== ""));
  const given = [...head, ...(tail ?? [])].length;
  const zeros = new Array<string>(8 - given).fill("0");
  return [...head, ...(tail === undefined ? [] : zeros), ...(tail ?? [])].map((group) =>
    Number.parseInt(group, 16),
  );
}

/** A non-blocking TCP socket for such an address, which does not hold small writes back; or `-errno`. */
export function tryCreateTcpSocket({ address }: TcpAddress): number {
  const family = isIPv6(address) ? AF_INET6 : AF_INET;
  const fd = orErrno(libcCalls.socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (fd < 0) return fd;
  setupScratch.data.setInt32(OPTION_AT, 1, true);
  libcCalls.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, setupScratch.address + OPTION_AT, 4);
  return fd;
}

/**
 * Begins to connect, and, called again, says how that goes: 0 once connected, -EINPROGRESS or -EALREADY while it is not
 * decided, or what went wrong (connect(2): a second call reports the outcome of the first).
 */
export function connectTcp(fd: number, address: TcpAddress): number {
  const length = putAddress(address);
  return orErrno(libcCalls.connect(fd, setupScratch.address, length));
}
