/**
 * The options of `createVsockDevice`, and how they become the configuration that the command line's options become too:
 * the same rules are checked, and each mistake is named by its option.
 */
import { inspect } from "node:util";
import { ConfigError } from "../../config/errors.js";
import { didYouMean } from "../../config/suggest.js";
import { createLogger, type Logger, silentLogger } from "../../log/logger.js";
import { LOG_LEVELS, type LogLevel, type LogRecord } from "../../log/record.js";
import { checkVmConfigs } from "../config/check.js";
import { IOTLB_CHOICES, type IotlbChoice, type VmConfig, vmConfig } from "../config/vm-config.js";

/** What a device is started with: `socketPath` or `fd`, and whatever shall differ from its default. */
export interface VsockDeviceOptions {
  /** Where the Unix socket is made that the VMM connects to (vhost-user). A stale socket file is replaced. */
  readonly socketPath?: string;
  /** Instead: a Unix socket that is open already, listening or connected to the VMM. The device closes it. */
  readonly fd?: number;
  /** The guest's address, 3 to 4294967294. Default 3. */
  readonly guestCid?: number;
  /**
   * Where a Unix socket is made for other programs of the host, which reach guest ports through it (`CONNECT <port>`);
   * a guest's connection to a port on which this process does not listen goes to `<udsPath>_<port>`. Seqpacket sockets
   * are served there as well (`<udsPath>_seqpacket`), and only there. Default: none.
   */
  readonly udsPath?: string;
  /** Permission bits of the socket at `udsPath`, such as `0o660`. Default: as the umask says. */
  readonly udsMode?: number;
  /** Number of the group that owns the socket at `udsPath`. Default: the process's. */
  readonly udsGroup?: number;
  /**
   * How the translation mode is found. `"on"` if the guest gives the device to code that it does not trust
   * (SECURITY.md). Default `"auto"`.
   */
  readonly iotlb?: IotlbChoice;
  /** Whether bit 33, VIRTIO_F_ACCESS_PLATFORM, is offered. Default true. */
  readonly accessPlatform?: boolean;
  /** Bytes that one connection may have in flight from the guest, once it needs them. Default 1048576. */
  readonly txBufferBytes?: number;
  /** The largest ring that is accepted, a power of two up to 32768. Default 1024. */
  readonly queueSize?: number;
  /** Connections that the guest may have at once, 1 to 65536. Default 4096. */
  readonly maxConnections?: number;
  /** Bytes that all connections together may have in flight from the guest (docs/limits.md). */
  readonly totalBufferBytes?: number;
  /** Milliseconds that `iotlb: "auto"` waits for a first IOTLB message where addresses do not decide. Default 50. */
  readonly probationMs?: number;
  /** Milliseconds that a connection may take to be established, in either direction. Default 2000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds that a program at `udsPath` may take to send its CONNECT line. Default 10000. */
  readonly handshakeTimeoutMs?: number;
  /** Milliseconds that the guest may take to answer an orderly end before it is reset. Default 8000. */
  readonly shutdownTimeoutMs?: number;
  /** Called with each log record (docs/log-events.md). Must not throw. Default: nothing is logged. */
  readonly log?: (record: LogRecord) => void;
  /** The least urgent records that `log` is called with. Default `"info"`. */
  readonly logLevel?: LogLevel;
}

/** Of each option what kind of value it takes, or which ones: programs in JavaScript have no compiler to tell them. */
const TAKES: Readonly<
  Record<keyof VsockDeviceOptions, "string" | "number" | "boolean" | "function" | readonly string[]>
> = {
  socketPath: "string",
  fd: "number",
  guestCid: "number",
  udsPath: "string",
  udsMode: "number",
  udsGroup: "number",
  iotlb: IOTLB_CHOICES,
  accessPlatform: "boolean",
  txBufferBytes: "number",
  queueSize: "number",
  maxConnections: "number",
  totalBufferBytes: "number",
  probationMs: "number",
  connectTimeoutMs: "number",
  handshakeTimeoutMs: "number",
  shutdownTimeoutMs: "number",
  log: "function",
  logLevel: LOG_LEVELS,
};

/** A name that is none, or a value of another kind, is a mistake that would otherwise show much later, or never. */
function checkKinds(options: unknown): asserts options is VsockDeviceOptions {
  if (typeof options !== "object" || options === null)
    throw new ConfigError("value-missing", "options", "give an object with socketPath, or fd");
  for (const [name, value] of Object.entries(options)) {
    const takes = Object.hasOwn(TAKES, name) ? TAKES[name as keyof VsockDeviceOptions] : undefined;
    if (takes === undefined)
      throw new ConfigError(
        "key-unknown",
        name,
        `there is no such option${didYouMean(name, Object.keys(TAKES))}`,
      );
    if (value === undefined) continue;
    if (typeof takes === "string" ? typeof value === takes : takes.includes(value)) continue;
    const wanted = typeof takes === "string" ? `a ${takes}` : takes.join(", ");
    throw new ConfigError("value-malformed", name, `${inspect(value)} cannot be used; give ${wanted}`);
  }
}

/** The configuration that the options describe; throws a ConfigError whose `where` is the option's name. */
export function configOf(options: VsockDeviceOptions): VmConfig {
  checkKinds(options);
  const { fd, log: _, logLevel: __, socketPath, udsPath, ...given } = options;
  const { udsMode = 0, udsGroup = 0 } = options;
  if (!Number.isInteger(udsMode) || udsMode < 0 || udsMode > 0o777)
    throw new ConfigError("value-malformed", "udsMode", `${udsMode} is no mode; give bits such as 0o660`);
  if (!Number.isInteger(udsGroup) || udsGroup < 0)
    throw new ConfigError("value-malformed", "udsGroup", `${udsGroup} is no group; give its number`);
  const settings = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  // Without udsPath nobody looks at the field: no socket is made.
  // Only Unix sockets keep message boundaries, a net.Socket does not.
  const seqpacket = udsPath !== undefined;
  const config = vmConfig({ socketPath, udsPath: udsPath ?? "", seqpacket, ...settings });
  if (fd !== undefined && (!Number.isInteger(fd) || fd < 0))
    throw new ConfigError("fd-unusable", "fd", `${fd} is no descriptor; give an open Unix socket's`);
  if (fd === undefined && socketPath === undefined)
    throw new ConfigError(
      "key-missing",
      "socketPath",
      "give the path of the Unix socket that the VMM connects to",
    );
  checkVmConfigs([{ config, placeOf: (field) => field }], { fd, hybrid: udsPath !== undefined });
  return config;
}

/** The logger that the options ask for. */
export function loggerOf({ log, logLevel = "info" }: VsockDeviceOptions): Logger {
  return log === undefined ? silentLogger : createLogger({ level: logLevel, sink: log });
}
