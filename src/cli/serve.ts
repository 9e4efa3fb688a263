/**
 * `bit33 serve`: reads the command line, starts the devices, waits for a signal, stops them.
 * Keeps the vhost-user document's "Backend program conventions": it never daemonizes, prints its capabilities
 * on request, and ends cleanly on SIGTERM.
 * Must not know how a device works; it gets one function that starts them.
 */

import type { VmConfig } from "../device/config/vm-config.js";
import type { RunningDevice, StartOptions } from "../device/device.js";
import type { GivenSocket } from "../device/given-sockets.js";
import { createLogger, type Logger, lineSink } from "../log/logger.js";
import type { LineOutput } from "../log/output.js";
import { hasSwitch } from "./options.js";
import { assignSockets, takePassedSockets } from "./serve/activation.js";
import { unwaitingLogOutput } from "./serve/log-output.js";
import { Surroundings } from "./serve/surroundings.js";
import { becomeUser } from "./serve/user.js";
import { readServeRequest } from "./serve-options.js";
import { waitForStopSignal } from "./signals.js";
import { EXIT_FAILURE, EXIT_OK, processTerminal, reportFailure, type Terminal } from "./terminal.js";
import { packageVersion } from "./version.js";

/** As the device gives it: resolves once every socket listens. */
export type StartDevice = (configs: readonly VmConfig[], options: StartOptions) => Promise<ServedDevice>;

export type ServedDevice = RunningDevice;

/** Everything that serving needs from outside, so that a test can stand in for each. */
export interface ServeDependencies {
  readonly startDevice: StartDevice;
  readonly terminal: Terminal;
  readonly logOutput: LineOutput;
  /** Resolves with the first signal that asks the program to end. */
  waitForStop(): Promise<string>;
}

/**
 * Schema in QEMU's docs/interop/vhost-user.json. As with the other types there, a feature names a command
 * line option that is supported beyond those that every back-end has.
 */
const CAPABILITIES = {
  type: "vsock",
  features: ["guest-cid", "uds-path", "iotlb", "access-platform"],
} as const;

export async function serveCommand(
  argv: readonly string[],
  dependencies: ServeDependencies = realDependencies,
): Promise<number> {
  const { terminal } = dependencies;
  // "Other options and arguments should be ignored", says the document of --print-capabilities.
  if (hasSwitch(argv, "--print-capabilities")) {
    terminal.print(JSON.stringify(CAPABILITIES, undefined, 2));
    return EXIT_OK;
  }
  if (hasSwitch(argv, "--help", "-h")) {
    const { serveHelp } = await import("./help.js");
    terminal.print(serveHelp());
    return EXIT_OK;
  }
  if (hasSwitch(argv, "--version", "-V")) {
    terminal.print(`bit33 ${packageVersion()}`);
    return EXIT_OK;
  }
  try {
    return await serve(argv, dependencies);
  } catch (error) {
    return reportFailure(error, terminal);
  }
}

async function serve(argv: readonly string[], dependencies: ServeDependencies): Promise<number> {
  const request = await readServeRequest(argv);
  const { configs, fd, logLevel, logFormat, isolate, confine, user } = request;
  const log = createLogger({ level: logLevel, sink: lineSink(logFormat, dependencies.logOutput) });
  const passed = takePassedSockets(process.env, process.pid);
  const given = assignSockets(passed, configs);
  // Before the start, so that a signal during it is not lost.
  const stop = dependencies.waitForStop();
  const surroundings = await Surroundings.prepare(request);
  let device: ServedDevice | undefined;
  try {
    const standing = request.control !== undefined;
    device = await dependencies.startDevice(configs, {
      log,
      isolate,
      confine,
      standing,
      given,
      ...(user === undefined ? {} : { claimed: () => becomeUser(user) }),
      ...(fd === undefined ? {} : { fd }),
    });
    if (passed.length > 0) logPassed(log, passed);
    for (const config of configs) logListening(log, config, fd);
    await surroundings.start(device, log, (config) => logListening(log, config, undefined));
  } catch (error) {
    await surroundings.close();
    await device?.close();
    throw error;
  }
  const serving = device;
  const endedByItself = serving.closed.then(
    () => EXIT_OK,
    (error: unknown) => {
      log.log({ event: "internal-error", message: `serving ended: ${String(error)}` });
      return EXIT_FAILURE;
    },
  );
  const stopped = stop.then(async () => {
    await surroundings.close();
    await serving.close();
    return EXIT_OK;
  });
  const status = await Promise.race([stopped, endedByItself]);
  await surroundings.close();
  return status;
}

function logPassed(log: Logger, passed: readonly GivenSocket[]): void {
  const names = passed.map(({ name }) => name).join(", ");
  const message = `the service manager has passed ${passed.length} sockets on`;
  log.log({ event: "sockets-passed", message, fields: { names } });
}

function logListening(log: Logger, config: VmConfig, fd: number | undefined): void {
  const { socketPath, udsPath, iotlb, accessPlatform } = config;
  log.log({
    event: "listening",
    vm: config.guestCid,
    message: "ready for a VMM and for host programs",
    fields: {
      ...(fd === undefined ? {} : { fd }),
      ...(socketPath === undefined ? {} : { socket: socketPath }),
      udsPath,
      iotlb,
      accessPlatform,
    },
  });
}

const realDependencies: ServeDependencies = {
  startDevice: async (configs, options) => {
    // Loaded late: a mistake on the command line is told without loading the native binding.
    const { startDevice } = await import("../device/device.js");
    return startDevice(configs, options);
  },
  terminal: processTerminal,
  get logOutput() {
    return unwaitingLogOutput();
  },
  waitForStop: waitForStopSignal,
};
