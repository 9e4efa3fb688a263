/**
 * TCP sockets by descriptor, for connections that are made without blocking. Addresses are numbers: a name would have to
 * be looked up, and that blocks.
 */
import { closeSync } from "node:fs";
import { isIPv6 } from "node:net";
import { checked, orErrno } from "./errors.js";
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
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

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
  if (fd >= 0) sendAtOnce(fd);
  return fd;
}

function setOption(fd: number, level: number, option: number): void {
  setupScratch.data.setInt32(OPTION_AT, 1, true);
  libcCalls.setsockopt(fd, level, option, setupScratch.address + OPTION_AT, 4);
}

/** Has a TCP socket hold no small write back. A socket of another kind stays as it is. */
export function sendAtOnce(fd: number): void {
  setOption(fd, IPPROTO_TCP, TCP_NODELAY);
}

/** Room for a burst of clients; the kernel allows no more than net.core.somaxconn. */
const BACKLOG = 1024;

/** Listens there, without blocking; throws a `SystemCallError` (EADDRINUSE, EADDRNOTAVAIL, EACCES). Port 0: any that is free. */
export function listenTcp(address: TcpAddress): number {
  const isV6 = isIPv6(address.address);
  const type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
  const fd = checked(libcCalls.socket(isV6 ? AF_INET6 : AF_INET, type, 0), "socket");
  try {
    // A port that only old connections of an earlier run still use can be had at once (socket(7)).
    setOption(fd, SOL_SOCKET, SO_REUSEADDR);
    if (isV6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY);
    const length = putAddress(address);
    checked(libcCalls.bind(fd, setupScratch.address, length), "bind");
    checked(libcCalls.listen(fd, BACKLOG), "listen");
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** The port of a bound TCP socket; the family and the port stand at the same place in both kinds of address. */
export function tcpPort(fd: number): number {
  const { data, address } = setupScratch;
  data.setUint32(OPTION_AT, 28, true);
  checked(libcCalls.getsockname(fd, address, address + OPTION_AT), "getsockname", `fd ${fd}`);
  return data.getUint16(2);
}

/**
 * Begins to connect, and, called again, says how that goes: 0 once connected, -EINPROGRESS or -EALREADY while it is not
 * decided, or what went wrong (connect(2): a second call reports the outcome of the first).
 */
export function connectTcp(fd: number, address: TcpAddress): number {
  const length = putAddress(address);
  return orErrno(libcCalls.connect(fd, setupScratch.address, length));
}
