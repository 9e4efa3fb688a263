/**
 * The guest's side of each kind of work, on a driver. Each function runs to its end and returns what it counted.
 * Nothing is allocated per packet.
 */
import type { Outcome, Sending } from "./commands.js";
import type { Link, MeasuringDriver } from "./driver.js";
import { LARGEST_PAYLOAD_BYTES } from "./driver-layout.js";
import { monotonicNs, type Progress } from "./progress.js";

/** How often it is looked whether all is over, when nothing happens. */
export const LOOK_MS = 20;
const STALLED_LOOKS = 100;

const FIRST_PORT = 1024;
const PORTS = 2 ** 20;
let portsUsed = 0;

/** Ports are used again only after a million others. */
function freshPort(): number {
  portsUsed = (portsUsed + 1) % PORTS;
  return FIRST_PORT + portsUsed;
}

function openAll(driver: MeasuringDriver, port: number, connections: number): Link[] {
  let refused = 0;
  let opened = 0;
  driver.events = { opened: () => opened++, closed: () => refused++ };
  const links = Array.from({ length: connections }, () => driver.open(freshPort(), port));
  while (opened + refused < connections) driver.turnOrStall(true);
  if (refused > 0) throw new Error(`${refused} of ${connections} connections were refused`);
  return links;
}

/** Sends as fast as credit and ring allow, the connections in turn. */
export function send(
  driver: MeasuringDriver,
  port: number,
  connections: number,
  { messageBytes, durationMs }: Sending,
  progress: Progress,
): Outcome {
  const links = openAll(driver, port, connections);
  const ready = new Turns(connections);
  for (const link of links) ready.add(link);
  driver.events = {
    credited: (link) => ready.add(link),
    closed: (link) => {
      throw new Error(`the device reset the connection of port ${link.localPort}`);
    },
  };
  let total = 0;
  const beganNs = monotonicNs();
  const endNs = beganNs + durationMs * 1e6;
  while (monotonicNs() < endNs) {
    while (driver.canSendData) {
      const link = ready.next();
      if (link === undefined) break;
      if (link.messageLeft === 0) link.messageLeft = messageBytes;
      const bytes = Math.min(link.messageLeft, link.credit, LARGEST_PAYLOAD_BYTES);
      if (bytes === 0) continue;
      driver.sendData(link, bytes);
      link.messageLeft -= bytes;
      total += bytes;
      ready.add(link);
    }
    driver.turnOrStall(!driver.canSendData);
  }
  progress.end(total);
  while (driver.transmitRing.inFlight > 0) driver.turnOrStall(true);
  return { beganNs, endedNs: monotonicNs(), count: total };
}

/** Takes what comes, until all is there. */
export function receive(driver: MeasuringDriver, progress: Progress): Outcome {
  let total = 0;
  let endedNs = 0;
  driver.events = {
    data: (_link, bytes) => {
      total += bytes;
    },
  };
  let looks = 0;
  for (let before = 0; total < progress.totalBytes; before = total) {
    driver.turn(LOOK_MS);
    looks = total > before ? 0 : looks + 1;
    if (total > before) endedNs = monotonicNs();
    if (looks > STALLED_LOOKS && progress.isOver)
      throw new Error(`${total} of ${progress.totalBytes} bytes came, and no more do`);
  }
  return { beganNs: 0, endedNs, count: total };
}

/** One message, one answer. */
export function ping(driver: MeasuringDriver, port: number, { messageBytes, durationMs }: Sending): Outcome {
  const [link] = openAll(driver, port, 1);
  let missing = 0;
  driver.events = {
    data: (_link, bytes) => {
      missing -= bytes;
    },
    closed: () => {
      throw new Error("the device reset the connection");
    },
  };
  const latenciesUs: number[] = [];
  const beganNs = monotonicNs();
  const endNs = beganNs + durationMs * 1e6;
  let nowNs = beganNs;
  while (nowNs < endNs) {
    while (link.credit < messageBytes || !driver.canSendData) driver.turnOrStall(true);
    const sentNs = monotonicNs();
    missing = messageBytes;
    driver.sendData(link, messageBytes);
    while (missing > 0) driver.turnOrStall();
    nowNs = monotonicNs();
    latenciesUs.push((nowNs - sentNs) / 1000);
  }
  return { beganNs, endedNs: nowNs, count: latenciesUs.length, latenciesUs };
}

/** Opens connections and closes each as soon as it is open; counts those that are gone. */
export function open(driver: MeasuringDriver, port: number, atATime: number, durationMs: number): Outcome {
  let closed = 0;
  let active = 0;
  const beganNs = monotonicNs();
  const endNs = beganNs + durationMs * 1e6;
  const begin = (): void => {
    active++;
    driver.open(freshPort(), port);
  };
  const isClosing = new Set<Link>();
  driver.events = {
    opened: (link) => {
      isClosing.add(link);
      driver.close(link);
    },
    closed: (link) => {
      if (!isClosing.delete(link)) throw new Error("a connection was refused");
      active--;
      closed++;
      if (monotonicNs() < endNs) begin();
    },
  };
  for (let i = 0; i < atATime; i++) begin();
  while (active > 0) driver.turnOrStall();
  return { beganNs, endedNs: monotonicNs(), count: closed };
}

/** Takes connections until it is over. */
export function accept(driver: MeasuringDriver, progress: Progress): Outcome {
  let count = 0;
  driver.events = { opened: () => count++ };
  const beganNs = monotonicNs();
  while (!progress.isOver) driver.turn(LOOK_MS);
  return { beganNs, endedNs: monotonicNs(), count };
}

/** Those that may send, in turn, each at most once. */
class Turns {
  readonly #links: (Link | undefined)[];
  #first = 0;
  #count = 0;

  constructor(capacity: number) {
    this.#links = new Array(capacity).fill(undefined);
  }

  add(link: Link): void {
    if (link.isReady) return;
    link.isReady = true;
    const { length } = this.#links;
    this.#links[(this.#first + this.#count) % length] = link;
    this.#count++;
  }

  next(): Link | undefined {
    if (this.#count === 0) return undefined;
    const link = this.#links[this.#first] as Link;
    this.#first = (this.#first + 1) % this.#links.length;
    this.#count--;
    link.isReady = false;
    return link;
  }
}
