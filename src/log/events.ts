/**
 * The registry of log events: every id that the program can log, its level, and the paragraph that the
 * documentation prints for it. An id is a promise: people filter and alert on it, so it is never renamed
 * and never changes its level; a new meaning gets a new id.
 * Must not know who logs what. To add an event, add a row; `EventId` follows; `npm run docs` renews docs/log-events.md.
 */

import type { LogLevel } from "./record.js";

interface EventDefinition {
  readonly level: LogLevel;
  readonly text: string;
}

export const EVENTS = {
  listening: {
    level: "info",
    text: "The device of one VM is ready: its vhost-user socket accepts a VMM, and its host socket accepts programs. Logged once for each VM at start.",
  },
  "sockets-passed": {
    level: "info",
    text: "The service manager has made sockets and passed them on (LISTEN_FDS); the record has their names. Logged once at start.",
  },
  "listen-served": {
    level: "info",
    text: "A socket of the host stands for a port of the guest (`--listen`): the record has its address, with the port that it got where 0 was asked for. Logged once for each at start, or when its VM is added.",
  },
  "metrics-served": {
    level: "info",
    text: "Metrics are served for Prometheus (`--metrics`), at the address in the record. Logged once at start.",
  },
  "control-served": {
    level: "info",
    text: "The control socket (`--control`) accepts `bit33 ctl`, which may add and remove VMs. Logged once at start.",
  },
  siblings: {
    level: "info",
    text: "VMs are started that have a group in common, with each other or with one that runs: they can reach each other by CID, and share a thread (a process with `--isolate process`). The record names the VMs and the groups. A VM that names no group is in the group `default`; give it one of its own if it shall be alone.",
  },
  "session-start": {
    level: "info",
    text: "A VMM connected to the vhost-user socket. Everything negotiated before belongs to an earlier session and is forgotten.",
  },
  "session-restart": {
    level: "info",
    text: "SET_OWNER came a second time over one connection: the VMM has another device behind it now. QEMU does so when its device is unplugged and plugged in again. Memory, rings, features and the guest's connections of before are forgotten, as at a new session.",
  },
  "session-end": {
    level: "info",
    text: "The vhost-user connection is over, with the reason: the VMM closed it, or the device closed it after the event logged just before. The device goes on listening for the next one.",
  },
  negotiated: {
    level: "info",
    text: "The features that this session runs with: what was offered, what the front-end acknowledged, and the vhost-user protocol features, all by name. A bit that was acknowledged without being offered is named with what is done about it.",
  },
  "translation-mode": {
    level: "info",
    text: "Whether addresses of this session go through the IOTLB, and the evidence on which that was decided. Bit 33 alone never decides it. Once it says `on` or `off`, it stays so until the front-end negotiates features anew while no ring runs.",
  },
  "ring-start": {
    level: "info",
    text: "A virtqueue began to run: its index, size, the position from which it goes on, and how its addresses were understood.",
  },
  "ring-stop": {
    level: "info",
    text: "A virtqueue stopped, with the reason and the position at which it can be taken up again. Mostly the front-end stopped or changed it; it also stops when it is broken, when the memory that it lies in is taken away, and when the device is reset or its session ends.",
  },
  "ring-broken": {
    level: "error",
    text: "A virtqueue holds something, or lies somewhere, that makes it impossible to go on. Mostly the guest put something there that no correct driver puts there (a descriptor chain that loops, an address outside its memory, a length that lies); an address of the ring itself that is misaligned or mapped in pieces comes from the front-end. The ring is stopped, the front-end is told through the ring's error eventfd, and only this device is affected. The ring runs again once it was set up anew, for which a guest has to reset the device.",
  },
  "ring-held": {
    level: "warn",
    text: "A virtqueue is started and enabled, addresses are not translated, and a part of the ring does not lie in the memory that the front-end shares. Or its addresses were set before a SET_FEATURES that changed what they mean. It does not run; it starts once memory or addresses have come that fit. The front-end is told through the ring's error eventfd.",
  },
  "transport-reset": {
    level: "info",
    text: "A driver goes on running whose connections are gone: this program was restarted under it, or the VM's state was restored. It was told so on the event queue (VIRTIO_VSOCK_EVENT_TRANSPORT_RESET), asks for its context id anew and ends its connections; listeners stay. Only where the VMM hands the event queue over (crosvm, cloud-hypervisor, QEMU's generic device); QEMU's vhost-user-vsock keeps it, and the guest then learns of each connection by a reset when it uses it.",
  },
  "connections-lost": {
    level: "info",
    text: "The device that the guest had before was lost without a word (its process was killed, or the VMM's connection to it broke), and its connections are known from the inflight memory that the VMM kept. The guest is sent a reset for each. What it had sent and was not yet told to be taken is not done again.",
  },
  "state-loaded": {
    level: "info",
    text: "The VMM restored or migrated its guest here, and the device took over the state of the one that the guest had before: the guest is told that its connections are gone, each of them and as a whole, and ports that it may still know are not given again.",
  },
  "dirty-log": {
    level: "info",
    text: "The VMM migrates its guest, or has ended or given up a migration: from now on the device notes each page of guest memory that it writes, or no longer.",
  },
  "dirty-log-too-short": {
    level: "error",
    text: "While a VMM migrates its guest, the device wrote to guest memory beyond the end of the dirty log that the VMM had set up. Such pages may arrive stale: the VMM has a log shorter than its memory. Logged once for each log.",
  },
  "message-refused": {
    level: "warn",
    text: "A vhost-user message was malformed, unknown, or not allowed at this point. It was answered as the vhost-user document asks; the record names the message and the rule.",
  },
  "iotlb-refused": {
    level: "warn",
    text: "An IOTLB message, or the need for one, contradicts the translation mode or has nowhere to go: an update in a session decided `off`, or an address to translate without a back-end channel to ask on.",
  },
  "mapping-missing": {
    level: "warn",
    text: "Addresses are translated, a ring needs an address that is not mapped, and the front-end has not mapped it although it was asked. The ring waits and the device goes on asking, at growing intervals. Usually the guest has given an address that it never mapped, or unmapped too early; sometimes the VMM does not answer questions. Logged once for each such wait.",
  },
  "channel-closed": {
    level: "warn",
    text: "The back-end channel, on which the device asks the front-end for missing mappings, was closed or failed. What is mapped stays usable; what is not can no longer be asked for, until the front-end gives a new channel.",
  },
  "connection-refused": {
    level: "info",
    text: "A guest's connection request was answered with a reset, with the reason: nothing listens on `<uds-path>_<port>`, its backlog stayed full until the connect timeout, the TCP address of a `--forward` did not answer for so long, or a limit was reached.",
  },
  "connection-reset": {
    level: "info",
    text: "An established connection was cut short by a reset from either side, with the reason. What the guest had sent before is still handed to a host program that goes on reading; where that comes to nothing, `bytes-undelivered` follows.",
  },
  "bytes-undelivered": {
    level: "warn",
    text: "A guest had ended its connection when bytes that it had sent still waited for a slow host program, and that program closed its socket, or the device was stopped, before it took them. The guest cannot be told any more.",
  },
  "command-failed": {
    level: "warn",
    text: "A command of `--forward PORT=exec:COMMAND` could not be started, mostly because the system has no more processes or descriptors; its guest finds the connection closed. A shell that does not find the program has been started: it says so itself, and ends with status 127.",
  },
  "command-ended": {
    level: "info",
    text: "A command of `--forward PORT=exec:COMMAND` ended with a status other than 0, or by a signal that did not come from here.",
  },
  "command-said": {
    level: "info",
    text: "A line that a command of `--forward PORT=exec:COMMAND` wrote to standard error, cut at 500 characters. It may hold what the guest made it say.",
  },
  "accept-failed": {
    level: "warn",
    text: "A VMM or a host program could not be accepted, mostly because this process may open no more descriptors (`ulimit -n`). It is tried again shortly.",
  },
  "descriptor-limit": {
    level: "warn",
    text: "The connections that all VMs together are allowed need more descriptors than this process may open. Connections beyond that are refused, so that the VMMs' sessions still find some. Raise the limit (`ulimit -n`, LimitNOFILE) or lower `max-connections`.",
  },
  "kick-polled": {
    level: "warn",
    text: "A queue's kick eventfd could not be watched (the system's limit of epoll watches, or no memory), so the queue is looked at every millisecond instead.",
  },
  "host-connect-failed": {
    level: "info",
    text: "A host program's `CONNECT <port>` reached no guest listener: the guest refused it, did not answer before the connect timeout, or no driver is running. The program's socket was closed.",
  },
  "handshake-failed": {
    level: "info",
    text: "A host program connected to the `uds-path` socket but did not send a valid `CONNECT <port>` line, or left before it was complete.",
  },
  "not-confined": {
    level: "warn",
    text: "With `--isolate process`: the kernel has no Landlock, or it is switched off, so the processes of VMs are not confined to the files that they need. Everything else works. Logged once at start; `--confine off` says that it is known, `--confine on` makes it an error.",
  },
  "process-died": {
    level: "error",
    text: "With `--isolate process`: the process of one VM's device ended although nobody had asked it to, by the signal or status in the record. Its connections and its VMM's session are lost; the other VMs go on. It is started again after the delay in the record, on the same sockets, so that a VMM that connects again is served; a VM whose vhost-user socket was inherited as a connected one is not.",
  },
  "device-stopped": {
    level: "info",
    text: "The device of one VM stopped serving, because the program was asked to end or because of the error logged just before.",
  },
  "memory-region-added": {
    level: "debug",
    text: "The front-end shared a region of guest memory: its guest-physical range, the front-end's address of it, and its size.",
  },
  "memory-region-removed": {
    level: "debug",
    text: "A region of guest memory was taken back. No system call touches it any more once the front-end has its answer.",
  },
  "memory-not-sealed": {
    level: "info",
    text: "The file behind a region of guest memory can still be made shorter, since it is not sealed against that (F_SEAL_SHRINK). A VMM that does so ends this whole process, and with it the devices of all VMs: the kernel answers the next access to the missing pages with SIGBUS. QEMU's `memory-backend-memfd` seals its memory; files (`memory-backend-file`) cannot be sealed. Logged once for each session.",
  },
  "internal-error": {
    level: "error",
    text: "An assertion of bit33 itself failed. The device in which it happened is stopped and the others go on, except siblings, which share a thread: there is a record for each of them. Please report it with the record's fields.",
  },
  "cid-limit": {
    level: "warn",
    text: "The CID in a packet is not the guest's own, or is outside the 32 bits that CIDs may use. The packet was dropped or answered with a reset.",
  },
  "packet-refused": {
    level: "warn",
    text: "A packet of the guest was answered with a reset because its socket type is not one that the device offers.",
  },
  "connection-limit": {
    level: "warn",
    text: "A VM has as many connections as `max-connections` allows. Further ones are refused until some end; the record is logged when the limit is first reached, not for each refusal.",
  },
  "log-lost": {
    level: "warn",
    text: "Log records could not be written (a full disk, a closed or stuck pipe) and are lost; the record says how many. Serving was not affected.",
  },
} as const satisfies Record<string, EventDefinition>;

export type EventId = keyof typeof EVENTS;

/** The level under which an event is logged, always the same for one id. */
export function levelOf(event: EventId): LogLevel {
  return EVENTS[event].level;
}
