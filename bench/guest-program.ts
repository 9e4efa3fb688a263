/**
 * The guest's program of a measurement, in a process of its own: a driver on one device, or for the floor the same
 * bytes on bare sockets. Takes commands from its parent, one at a time.
 */
import { BareSockets } from "./bare-work.js";
import { type GuestCommand, NOTHING, type Outcome } from "./commands.js";
import { MeasuringDriver } from "./driver.js";
import { accept, open, ping, receive, send } from "./guest-work.js";
import { obey } from "./obey.js";
import { Progress } from "./progress.js";

const progress = new Progress(process.argv[2]);
const sockets = new BareSockets();
/** The one that is asked for work. */
let attached: MeasuringDriver | undefined;
/** Those before it, which hold their devices and do nothing. */
const resting: MeasuringDriver[] = [];

function driver(): MeasuringDriver {
  if (attached === undefined) throw new Error("no device is attached");
  return attached;
}

function talliedBy(measured: MeasuringDriver): Outcome {
  const tally = measured.takeTally();
  return tally === undefined ? NOTHING : { ...NOTHING, tally };
}

obey((command: GuestCommand): Outcome => {
  switch (command.do) {
    case "attach":
      if (attached !== undefined) resting.push(attached);
      attached = new MeasuringDriver({ ...command, tellsWhenEmpty: !command.lazyCredit });
      return NOTHING;
    case "tally":
      return talliedBy(driver());
    case "listen":
      sockets.listen(command.path);
      return NOTHING;
    case "send":
      return "path" in command.to
        ? sockets.sendToMany(command.to.path, command.connections, command, progress)
        : send(driver(), command.to.port, command.connections, command, progress);
    case "receive":
      return attached === undefined ? sockets.sink(progress) : receive(attached, progress);
    case "ping":
      return "path" in command.to
        ? sockets.ping(command.to.path, command)
        : ping(driver(), command.to.port, command);
    case "open":
      return open(driver(), command.port, command.atATime, command.durationMs);
    case "accept":
      return accept(driver(), progress);
    case "hang-up":
      if (attached !== undefined) {
        attached.events = {};
        attached.resetAll();
      }
      sockets.hangUp();
      return NOTHING;
  }
});
