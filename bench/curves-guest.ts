/** The guest's program of the curves: the drivers of one VM or of many, on one thread. */
import { NOTHING, type Outcome, type Sending } from "./commands.js";
import type { CurveGuestCommand } from "./curves-commands.js";
import { RegionDriver } from "./curves-region-driver.js";
import { type Link, MeasuringDriver } from "./driver.js";
import { receive } from "./guest-work.js";
import { obey } from "./obey.js";
import { monotonicNs, Progress } from "./progress.js";

const FIRST_PORT = 1024;

const progress = new Progress(process.argv[2]);
let drivers: readonly MeasuringDriver[] = [];
let regions: RegionDriver | undefined;
let portsUsed = 0;
/** Connections that are open, in the order in which they were opened. */
let links: Link[] = [];

function regionDriver(): RegionDriver {
  if (regions === undefined) throw new Error("nothing is attached");
  return regions;
}

function openAll(driver: MeasuringDriver, port: number, connections: number): Link[] {
  let settled = 0;
  let refused = 0;
  driver.events = {
    opened: () => settled++,
    closed: () => {
      settled++;
      refused++;
    },
  };
  const opened = Array.from({ length: connections }, () => driver.open(FIRST_PORT + portsUsed++, port));
  while (settled < connections) driver.turnOrStall(true);
  if (refused > 0) throw new Error(`${refused} of ${connections} connections were refused`);
  driver.events = {};
  return opened;
}

/** Sends on these connections in turn; one whose credit is used up waits until there is more. */
function send(
  driver: MeasuringDriver,
  active: readonly Link[],
  { messageBytes, durationMs }: Sending,
): Outcome {
  // Each is in the queue once at most.
  const queue: Link[] = [...active];
  const queued = new Set(queue);
  let first = 0;
  let count = queue.length;
  const add = (link: Link): void => {
    if (queued.has(link) || !link.isOpen) return;
    queued.add(link);
    queue[(first + count++) % queue.length] = link;
  };
  driver.events = { credited: add };
  let total = 0;
  const beganNs = monotonicNs();
  const endNs = beganNs + durationMs * 1e6;
  while (monotonicNs() < endNs) {
    while (driver.canSendData && count > 0) {
      const link = queue[first];
      first = (first + 1) % queue.length;
      count--;
      queued.delete(link);
      if (link.credit < messageBytes) continue;
      driver.sendData(link, messageBytes);
      total += messageBytes;
      add(link);
    }
    driver.turnOrStall(!driver.canSendData);
  }
  progress.end(total);
  while (driver.transmitRing.inFlight > 0) driver.turnOrStall(true);
  return { beganNs, endedNs: monotonicNs(), count: total };
}

function sendInTurn({
  turnMs,
  messageBytes,
  durationMs,
}: Extract<CurveGuestCommand, { do: "send-in-turn" }>): Outcome {
  let total = 0;
  const beganNs = monotonicNs();
  const endNs = beganNs + durationMs * 1e6;
  for (let vm = 0; monotonicNs() < endNs; vm = (vm + 1) % drivers.length) {
    const [driver, link] = [drivers[vm], links[vm]];
    const turnEndNs = Math.min(endNs, monotonicNs() + turnMs * 1e6);
    while (monotonicNs() < turnEndNs) {
      while (driver.canSendData && link.credit >= messageBytes) {
        driver.sendData(link, messageBytes);
        total += messageBytes;
      }
      driver.turnOrStall(!driver.canSendData);
    }
    while (driver.transmitRing.inFlight > 0) driver.turnOrStall(true);
  }
  progress.end(total);
  return { beganNs, endedNs: monotonicNs(), count: total };
}

function hangUp(): void {
  for (const driver of drivers) {
    driver.events = {};
    driver.resetAll();
  }
  links = [];
  regions?.hangUp();
}

obey((command: CurveGuestCommand): Outcome => {
  switch (command.do) {
    case "attach":
      drivers = command.socketPaths.map(
        (socketPath) =>
          new MeasuringDriver({ socketPath, queueSize: command.queueSize, tellsWhenEmpty: true }),
      );
      return NOTHING;
    case "attach-regions":
      regions = new RegionDriver(command.socketPath, command.regions);
      return NOTHING;
    case "open":
      links.push(...openAll(drivers[command.vm], command.port, command.connections));
      return NOTHING;
    case "open-each":
      links.push(...drivers.map((driver) => openAll(driver, command.port, 1)[0]));
      return NOTHING;
    case "send":
      return send(drivers[command.vm], links.slice(-command.connections), command);
    case "send-in-turn":
      return sendInTurn(command);
    case "receive":
      return receive(drivers[0], progress);
    case "open-regions":
      regionDriver().open(command.port);
      return NOTHING;
    case "send-regions":
      return regionDriver().send(command, progress);
    case "receive-regions":
      return regionDriver().receive(progress);
    case "hang-up":
      hangUp();
      return NOTHING;
  }
});
