/**
 * The process of one VM's device, or of siblings' (`--isolate process`): the same thread as in the main process, and a main thread that
 * does what the other one says (`process-messages.ts`). It ends with its last
 * device, or when the main process is gone.
 */
import { createLogger } from "../log/logger.js";
import { DeviceThread } from "./device-thread.js";
import { CommandRelay } from "./forward/command-relay.js";
import { processFigures } from "./metrics/process-figures.js";
import { FIRST_INHERITED_FD, type FromProcess, type ToProcess } from "./process-messages.js";

let device: DeviceThread | undefined;
/** By the CID of the VM whose commands they are about. */
const relays = new Map<number, CommandRelay>();

function post(message: FromProcess): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}

function start({ vms, logLevel }: ToProcess & { kind: "start" }): void {
  // What crosses to the other process has its time already, and its level follows from its event.
  const log = createLogger({
    level: logLevel,
    sink: ({ level: _, ...entry }) => post({ kind: "log", entry }),
  });
  let nextFd = FIRST_INHERITED_FD;
  const runnerVms = vms.map(({ config, listening, hasSeqpacket, guestPorts }) => ({
    config,
    sockets: {
      vmm: { fd: nextFd++, listening },
      hybridFd: nextFd++,
      seqpacketFd: hasSeqpacket ? nextFd++ : undefined,
      listens: guestPorts.map((guestPort) => ({ fd: nextFd++, guestPort })),
    },
  }));
  // One socket for all: what is sent over it comes in the order of the messages.
  const commandFd = nextFd;
  const withCommands = runnerVms.map((vm) => {
    const cid = vm.config.guestCid;
    const commands = new CommandRelay(commandFd, (message) => post({ ...message, cid }));
    relays.set(cid, commands);
    return { ...vm, commands };
  });
  const thread = new DeviceThread(withCommands, log);
  device = thread;
  thread.ready.then(
    () => post({ kind: "ready" }),
    () => {},
  );
  const all = vms.map(async ({ config: { guestCid } }) => {
    await thread.ended(guestCid);
    await postAndWait({ kind: "gone", cid: guestCid });
  });
  Promise.all(all).then(
    () => process.exit(0),
    // A failed assertion of the device: the main process hears of a death and starts another.
    () => process.exit(1),
  );
}

/** Resolves once it is on its way. */
function postAndWait(message: FromProcess): Promise<void> {
  return new Promise((resolve) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve());
    else resolve();
  });
}

async function answer(id: number, cid: number): Promise<void> {
  const figures = await device?.figures(cid);
  post({ kind: "figures", id, answer: figures && { ...figures, process: processFigures() } });
}

/** The main process is gone. */
function closeAll(): void {
  if (device === undefined) process.exit(0);
  device.stopAll();
}

process.on("message", (message: ToProcess) => {
  if (message.kind === "start") start(message);
  else if (message.kind === "figures") void answer(message.id, message.cid);
  else if (message.kind === "command-exited") relays.get(message.cid)?.exited(message.id);
  else device?.stop(message.cid);
});
post({ kind: "here" });
process.on("disconnect", closeAll);
// A terminal's Ctrl-C and a service manager's SIGTERM reach every process; the main one decides what becomes of it.
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => {});
