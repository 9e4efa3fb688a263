/** The guest's program of the curves: the drivers of one VM or of many, on one thread. */
import { NOTHING, type Outcome } from "./commands.js";
import type { CurveGuestCommand } from "./curves-commands.js";
import { RegionDriver } from "./curves-region-driver.js";
import { type Link, MeasuringDriver } from "./driver.js";
import { receive, send } from "./guest-work.js";
import { obey } from "./obey.js";
import { monotonicNs, Progress } from "./progress.js";

/** Of connections that this program opens itself; `guest-work.ts` counts up from 1024. */
const FIRST_PORT = 2 ** 22;

const progress = new Progress(process.argv[2]);
let drivers: readonly MeasuringDriver[] = [];
let regions: RegionDriver | undefined;
let portsUsed = 0;

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
  const links = Array.from({ length: connections }, () => driver.open(FIRST_PORT + portsUsed++, port));
  while (settled < connections) driver.turnOrStall(true);
  if (refused > 0) throw new Error(`${refused} of ${connections} connections were refused`);
  driver.events = {};
  return links;
}

function sendInTurn({
  port,
  turnMs,
  messageBytes,
  durationMs,
}: Extract<CurveGuestCommand, { do: "send-in-turn" }>): Outcome {
  const links = drivers.map((driver) => openAll(driver, port, 1)[0]);
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
    case "idle":
      openAll(drivers[0], command.port, command.connections);
      return NOTHING;
    case "send":
      return send(drivers[command.vm], command.port, command.connections, command, progress);
    case "send-in-turn":
      return sendInTurn(command);
    case "receive":
      return receive(drivers[0], progress);
    case "send-regions":
      return regionDriver().send(command.port, command, progress);
    case "receive-regions":
      return regionDriver().receive(progress);
    case "hang-up":
      hangUp();
      return NOTHING;
  }
});
