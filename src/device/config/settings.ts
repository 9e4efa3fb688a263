/**
 * The settings of one VM: the one list of keys, and how a bag of texts becomes a VmConfig.
 * Options, `--vm` and the YAML file are three ways to write the same thing; each of them is read into a
 * VmSettings (key -> text and place), and everything after that is shared. The keys and their shapes are
 * those of vhost-device-vsock 0.3.0, so that its users change only the program's name; the rest is ours.
 * Must not know the three notations: they are in src/cli/.
 */

import { ConfigError } from "../../config/errors.js";
import { quoted } from "../../config/quoted.js";
import { didYouMean } from "../../config/suggest.js";
import { readForwards, readListens } from "./forwards.js";
import {
  readChoice,
  readGroup,
  readMode,
  readNames,
  readNumber,
  readPath,
  readSwitch,
  type Setting,
} from "./values.js";
import { IOTLB_CHOICES, VM_DEFAULTS, type VmConfig } from "./vm-config.js";

interface SettingDefinition {
  /** What follows the key in a usage line. */
  readonly argument: string;
  readonly help: string;
  readonly field: keyof VmConfig;
  /** It may be given several times for one VM, and each time adds to it. */
  readonly repeatable?: boolean;
}

/** In the order in which help lists them. */
export const SETTINGS = {
  "guest-cid": {
    field: "guestCid",
    argument: "CID",
    help: "the guest's address, 3 to 4294967294 (default 3)",
  },
  socket: { field: "socketPath", argument: "PATH", help: "Unix socket to make for the VMM (vhost-user)" },
  "uds-path": {
    field: "udsPath",
    argument: "PATH",
    help: "Unix socket to make for host programs; a guest's connection to port N goes to PATH_N",
  },
  "tx-buffer-size": {
    field: "txBufferBytes",
    argument: "BYTES",
    help: "bytes that one connection may have in flight from the guest, once it needs them (default 1048576)",
  },
  "queue-size": {
    field: "queueSize",
    argument: "N",
    help: "largest ring to accept, a power of two up to 32768 (default 1024)",
  },
  groups: {
    field: "groups",
    argument: "NAME+NAME",
    help: "VMs with a group in common reach each other by CID and share a thread (default: default)",
  },
  iotlb: {
    field: "iotlb",
    argument: "auto|on|off|explicit",
    help: "whether addresses are translated; on if code inside the guest is not trusted (default auto)",
  },
  "iotlb-explicit-bit": {
    field: "explicitBit",
    argument: "N",
    help: "experimental: protocol feature bit that iotlb=explicit uses (default 62)",
  },
  "access-platform": {
    field: "accessPlatform",
    argument: "on|off",
    help: "whether bit 33, VIRTIO_F_ACCESS_PLATFORM, is offered to the guest (default on)",
  },
  seqpacket: {
    field: "seqpacket",
    argument: "on|off",
    help: "whether the guest gets seqpacket sockets; host programs use PATH_seqpacket for them (default on)",
  },
  "uds-mode": {
    field: "udsMode",
    argument: "MODE",
    help: "mode of the Unix sockets for host programs, such as 0660",
  },
  "uds-group": {
    field: "udsGroup",
    argument: "NAME|GID",
    help: "group that owns the Unix sockets for host programs",
  },
  forward: {
    field: "forwards",
    argument: "PORT=TARGET",
    repeatable: true,
    help: "the guest's connections to PORT go to TARGET: tcp:ADDRESS:PORT, unix:PATH or exec:COMMAND; repeatable",
  },
  listen: {
    field: "listens",
    argument: "SOURCE=PORT",
    repeatable: true,
    help: "who connects to SOURCE, tcp:ADDRESS:PORT or unix:PATH, is connected to PORT of the guest; repeatable",
  },
  "max-connections": {
    field: "maxConnections",
    argument: "N",
    help: "connections that the VM may have at once (default 4096)",
  },
  "total-buffer-size": {
    field: "totalBufferBytes",
    argument: "BYTES",
    help: "sum of what all of its connections may have in flight (default 1 GiB, or 16 times tx-buffer-size)",
  },
  "connect-timeout-ms": {
    field: "connectTimeoutMs",
    argument: "N",
    help: "how long a connection may take to be set up, in either direction (default 2000)",
  },
  "handshake-timeout-ms": {
    field: "handshakeTimeoutMs",
    argument: "N",
    help: "how long a host program may take to send its CONNECT line (default 10000)",
  },
  "shutdown-timeout-ms": {
    field: "shutdownTimeoutMs",
    argument: "N",
    help: "how long the guest may take to answer a clean close before it is reset (default 8000)",
  },
  "probation-ms": {
    field: "probationMs",
    argument: "N",
    help: "how long iotlb=auto waits for an IOTLB message where addresses do not decide (default 50)",
  },
} as const satisfies Record<string, SettingDefinition>;

export type SettingKey = keyof typeof SETTINGS;

export type RepeatableKey = "forward" | "listen";

export function isRepeatable(key: SettingKey): key is RepeatableKey {
  return "repeatable" in SETTINGS[key];
}

export const SETTING_KEYS = Object.keys(SETTINGS) as readonly SettingKey[];

/** Keys of the peer that bit33 knows in order to say why not, and what to use. */
export const FORWARDING_KEYS = {
  "forward-cid":
    "bit33 never opens the host's AF_VSOCK; use uds-path=PATH, and a guest's connection to port N reaches the Unix socket PATH_N",
  "forward-listen":
    "bit33 never opens the host's AF_VSOCK; use uds-path=PATH, and host programs connect there and send CONNECT <port>",
} as const satisfies Record<string, string>;

/** One VM as it was written down. */
export interface VmSettings {
  /** Where the VM as a whole is described, for errors about what is not there. */
  readonly place: string;
  readonly values: ReadonlyMap<SettingKey, Setting>;
  /** Everything that was given for keys that may be repeated, in order. */
  readonly repeated: Readonly<Record<RepeatableKey, readonly Setting[]>>;
}

/** A VmConfig that remembers where each of its fields was written. */
export interface PlacedVmConfig {
  readonly config: VmConfig;
  placeOf(field: keyof VmConfig): string;
}

/** Collects one VM's settings, key by key, in whatever notation; refuses a repeated key. */
export class VmSettingsBuilder implements VmSettings {
  readonly values = new Map<SettingKey, Setting>();
  readonly repeated: Record<RepeatableKey, Setting[]> = { forward: [], listen: [] };

  constructor(readonly place: string) {}

  /** @param keyPlace where the key is, which is not always where the value is */
  add(key: SettingKey, keyPlace: string, value: Setting): void {
    if (isRepeatable(key)) this.repeated[key].push(value);
    else if (this.values.has(key)) {
      throw new ConfigError("key-twice", keyPlace, `${key} is given twice for the same VM; keep one of them`);
    }
    this.values.set(key, value);
  }
}

/** The key that was written, with dashes or underscores: the peer takes both, and so do we. */
export function readSettingKey(keyText: string, place: string): SettingKey {
  const key = keyText.replaceAll("_", "-");
  refuseForwarding(key, place);
  if (isSettingKey(key)) return key;
  const known = `; the keys are ${SETTING_KEYS.join(", ")}`;
  const suggestion = didYouMean(key, SETTING_KEYS);
  throw new ConfigError("key-unknown", place, `unknown key ${quoted(keyText)}${suggestion || known}`);
}

export function isSettingKey(key: string): key is SettingKey {
  return Object.hasOwn(SETTINGS, key);
}

export function refuseForwarding(key: string, place: string): void {
  if (Object.hasOwn(FORWARDING_KEYS, key)) {
    throw new ConfigError("forwarding-refused", place, FORWARDING_KEYS[key as keyof typeof FORWARDING_KEYS]);
  }
}

/** Reads every text into its value. What the values may be together is for `checkVmConfigs` to say. */
export function readVmSettings({ place, values, repeated }: VmSettings): PlacedVmConfig {
  const read = <Value, Fallback>(
    key: SettingKey,
    reader: (setting: Setting) => Value,
    fallback: Fallback,
  ) => {
    const setting = values.get(key);
    return setting === undefined ? fallback : reader(setting);
  };
  const udsPath = read("uds-path", readPath, undefined);
  if (udsPath === undefined) {
    throw new ConfigError(
      "key-missing",
      place,
      "uds-path is missing; give the Unix socket for host programs",
    );
  }
  const iotlb = read("iotlb", (setting) => readChoice(setting, IOTLB_CHOICES), VM_DEFAULTS.iotlb);
  const explicitBit = values.get("iotlb-explicit-bit");
  if (explicitBit !== undefined && iotlb !== "explicit") {
    const problem = `the bit has a meaning only with iotlb=explicit, and iotlb is ${iotlb}; leave it out`;
    throw new ConfigError("value-malformed", explicitBit.place, problem);
  }
  const config: VmConfig = {
    guestCid: read("guest-cid", readNumber, VM_DEFAULTS.guestCid),
    socketPath: read("socket", readPath, VM_DEFAULTS.socketPath),
    udsPath,
    txBufferBytes: read("tx-buffer-size", readNumber, VM_DEFAULTS.txBufferBytes),
    queueSize: read("queue-size", readNumber, VM_DEFAULTS.queueSize),
    groups: read("groups", readNames, [...VM_DEFAULTS.groups]),
    iotlb,
    explicitBit: read("iotlb-explicit-bit", readNumber, VM_DEFAULTS.explicitBit),
    accessPlatform: read("access-platform", readSwitch, VM_DEFAULTS.accessPlatform),
    seqpacket: read("seqpacket", readSwitch, VM_DEFAULTS.seqpacket),
    udsMode: read("uds-mode", readMode, VM_DEFAULTS.udsMode),
    udsGroup: read("uds-group", (setting) => readGroup(setting), VM_DEFAULTS.udsGroup),
    forwards: readForwards(repeated.forward),
    listens: readListens(repeated.listen),
    maxConnections: read("max-connections", readNumber, VM_DEFAULTS.maxConnections),
    totalBufferBytes: read("total-buffer-size", readNumber, VM_DEFAULTS.totalBufferBytes),
    probationMs: read("probation-ms", readNumber, VM_DEFAULTS.probationMs),
    connectTimeoutMs: read("connect-timeout-ms", readNumber, VM_DEFAULTS.connectTimeoutMs),
    handshakeTimeoutMs: read("handshake-timeout-ms", readNumber, VM_DEFAULTS.handshakeTimeoutMs),
    shutdownTimeoutMs: read("shutdown-timeout-ms", readNumber, VM_DEFAULTS.shutdownTimeoutMs),
  };
  return {
    config,
    placeOf: (field) => {
      const key = SETTING_KEYS.find((candidate) => SETTINGS[candidate].field === field);
      return (key === undefined ? undefined : values.get(key)?.place) ?? place;
    },
  };
}
