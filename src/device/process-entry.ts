/**
 * The process of one VM's device (`--isolate process`): the same thread as in the main process, and a main thread that
 * does what the other one says (`process-messages.ts`). It ends when it is told to, when its device does, or when the
 * main process is gone.
 */
import { createLogger } from "../log/logger.js";
import { DeviceThread } from "./device-thread.js";
import { CommandRelay } from "./forward/command-relay.js";
import { processFigures } from "./metrics/process-figures.js";
import { FIRST_INHERITED_FD, type FromProcess, type ToProcess } from "./process-messages.js";

let device: DeviceThread | undefined;
let relay: CommandRelay | undefined;
let stopping = false;

function post(message: FromProcess): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

/** Exits once everything that was posted is on its way. */
function leave(status: number): void {
  if (!process.connected) process.exit(status);
  process.send?.({ kind: "finished" } satisfies FromProcess, undefined, undefined, () =>
    process.exit(status),
  );
}

function start({
  config,
  listening,
  hasSeqpacket,
  guestPorts,
  logLevel,
}: ToProcess & { kind: "start" }): void {
  // What crosses to the other process has its time already, and its level follows from its event.
  const log = createLogger({
    level: logLevel,
    sink: ({ level: _, ...entry }) => post({ kind: "log", entry }),
  });
  let next = FIRST_INHERITED_FD;
  const sockets = {
    vmm: { fd: next++, listening },
    hybridFd: next++,
    seqpacketFd: hasSeqpacket ? next++ : undefined,
    listens: guestPorts.map((guestPort) => ({ fd: next++, guestPort })),
  };
  relay = new CommandRelay(next, post);
  device = new DeviceThread(config, sockets, log, relay);
  device.ready.then(
    () => post({ kind: "ready" }),
    () => {},
  );
  device.ended.then(
    () => leave(0),
    // A failed assertion of the device: the main process hears of a death and starts another.
    () => process.exit(1),
  );
}

async function answer(id: number): Promise<void> {
  const figures = await device?.figures();
  post({ kind: "figures", id, answer: figures && { ...figures, process: processFigures() } });
}

function close(): void {
  stopping = true;
  if (device === undefined) process.exit(0);
  device.stop();
}

process.on("message", (message: ToProcess) => {
  if (message.kind === "start") start(message);
  else if (message.kind === "figures") void answer(message.id);
  else if (message.kind === "command-exited") relay?.exited(message.id);
  else close();
});
post({ kind: "here" });
process.on("disconnect", () => {
  if (!stopping) close();
});
// A terminal's Ctrl-C and a service manager's SIGTERM reach every process; the main one decides what becomes of it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
