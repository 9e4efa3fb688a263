/**
 * The host's program of a measurement, in a process of its own: sinks, sources and echoes bytes without looking at
 * them. Takes commands from its parent, one at a time.
 */
import { BareSockets } from "./bare-work.js";
import { type HostCommand, NOTHING, type Outcome } from "./commands.js";
import { obey } from "./obey.js";
import { Progress } from "./progress.js";

const progress = new Progress(process.argv[2]);
const sockets = new BareSockets();

obey((command: HostCommand): Outcome => {
  switch (command.do) {
    case "listen":
      sockets.listen(command.path);
      return NOTHING;
    case "receive":
      return sockets.receive(command.connections, command.snapshotMs, progress);
    case "send":
      return sockets.sendTo(command.path, command.port, command, progress);
    case "echo":
      return sockets.echo();
    case "accept":
      return sockets.accept(progress);
    case "open":
      return sockets.open(command.path, command.port, command.atATime, command.durationMs);
    case "hang-up":
      sockets.hangUp();
      return NOTHING;
  }
});
