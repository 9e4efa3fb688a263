/**
 * The switch of one guest's vsock device: finds the connection of each packet, makes and ends connections, and keeps
 * whatever is due to the guest until its receive queue has room. Hot path: allocates nothing per packet.
 *
 * Its user calls `receive` for each packet of a burst, `flush` before it returns the buffers to the guest, and `pump`
 * when the guest may have receive buffers. Knows neither virtqueues (`receive-ring.ts`) nor what is behind a host
 * port (`HostEndpoints`).
 */
import { closeDescriptor } from "../linux/close.js";
import { errno, errnoName } from "../linux/errors.js";
import type { EventLoop } from "../linux/event-loop.js";
import type { Logger } from "../log/logger.js";
import type { SegmentList } from "../memory/segments.js";
import { Connection, Due, type Opener } from "./connection.js";
import { ConnectionTable } from "./connection-table.js";
import { type ResetCause, SwitchCounters } from "./counters.js";
import {
  describePacket,
  HOST_CID,
  MessageEnd,
  Op,
  type PacketHeader,
  Shutdown,
  SocketType,
} from "./header.js";
import { BACKLOG_STAYED_FULL, connectProblem, type HostEndpoints } from "./host-endpoints.js";
import { CONNECT_RETRY_MS, LEAST_BUFFER_BYTES, MOST_WAITING_RESETS, type SwitchLimits } from "./limits.js";
import type { Neighbours } from "./neighbours.js";
import { PayloadBatch } from "./payload-batch.js";
import { ReceivePump } from "./receive-pump.js";
import type { ReceiveRing } from "./receive-ring.js";
import { ResetQueue } from "./reset-queue.js";
import { SeqpacketConnection } from "./seqpacket-connection.js";
import { SiblingConnection, type SiblingOwner } from "./sibling-connection.js";

export interface SwitchOptions {
  readonly loop: EventLoop;
  readonly guestCid: number;
  readonly limits: SwitchLimits;
  readonly endpoints: HostEndpoints;
  readonly log: Logger;
  /**
   * The first port given to a connection from the host. Default: one that differs from run to run, so that a guest that
   * outlives this process does not take a new connection for an old one.
   */
  readonly firstAssignedPort?: number;
  /** Who else may be reached by CID, through which groups. The switch joins it, and leaves it when it is closed. */
  readonly siblings?: { readonly neighbours: Neighbours; readonly groups: readonly string[] };
}

/** See `VsockSwitch.journal`. */
export interface Journal {
  add(farCid: number, farPort: number, guestPort: number, type: number): void;
  remove(farCid: number, farPort: number, guestPort: number): void;
  /** A reset is in a receive buffer that is not published yet. */
  told(farCid: number, farPort: number, guestPort: number): void;
  clear(): void;
}

/** What there is to know of a connection to end it. */
export interface LostConnection {
  /** The host's CID, or that of a sibling. */
  readonly farCid: number;
  readonly hostPort: number;
  readonly guestPort: number;
  /** `SocketType`. */
  readonly type: number;
}

/** Host ports that are given to connections from the host, as Firecracker numbers them: from 2^30. */
const FIRST_ASSIGNED_PORT = 2 ** 30;
const ASSIGNED_PORTS = 2 ** 30;

/** A guest whose receive queue runs: what is due to it can be sent at once. */
export interface GuestDoor {
  deliver(): void;
}

type Table = ConnectionTable<Connection>;

export class VsockSwitch implements SiblingOwner {
  readonly loop: EventLoop;
  readonly limits: SwitchLimits;
  /** The guest's driver has acknowledged VIRTIO_VSOCK_F_SEQPACKET; until it does, that type does not exist for it. */
  seqpacket = false;
  /** Hears of each connection that the guest may know, and when it knows that one is gone. */
  journal: Journal | undefined;
  /** Of the device's life. */
  readonly counters = new SwitchCounters();
  readonly #guestCid: number;
  readonly #endpoints: HostEndpoints;
  readonly #log: Logger;
  readonly #siblings: SwitchOptions["siblings"];
  /** The guest's receive queue, while it runs. */
  door: GuestDoor | undefined;
  /** Connections with the host; and those with each sibling, by its CID. */
  readonly #table: Table = new ConnectionTable<Connection>();
  readonly #siblingTables = new Map<number, Table>();
  readonly #draining = new Set<Connection>();
  readonly #resets: ResetQueue;
  readonly #pump: ReceivePump;
  readonly #batch = new PayloadBatch();
  #bufferBytesGiven = 0;
  /** In all of the siblings' tables. */
  #siblingConnections = 0;
  #limitReached = false;
  #nextPort: number;

  constructor(options: SwitchOptions) {
    this.loop = options.loop;
    this.limits = options.limits;
    this.#guestCid = options.guestCid;
    this.#endpoints = options.endpoints;
    this.#siblings = options.siblings;
    this.#siblings?.neighbours.join(options.guestCid, this.#siblings.groups, this);
    this.#log = options.log;
    this.#nextPort =
      options.firstAssignedPort ?? FIRST_ASSIGNED_PORT + Math.floor(Math.random() * ASSIGNED_PORTS);
    this.#resets = new ResetQueue(MOST_WAITING_RESETS + 2 * this.limits.maxConnections);
    this.#pump = new ReceivePump(
      options.guestCid,
      this.#resets,
      this.counters,
      (farCid, farPort, guestPort) => {
        // Who has the ports now has not heard of its end.
        if (this.#tableOf(farCid)?.find(farPort, guestPort) === undefined)
          this.journal?.told(farCid, farPort, guestPort);
      },
    );
  }

  /** The port that the next connection from the host gets. Settable to where another device of this guest had got to. */
  get nextPort(): number {
    return this.#nextPort;
  }

  set nextPort(port: number) {
    if (port >= FIRST_ASSIGNED_PORT && port < FIRST_ASSIGNED_PORT + ASSIGNED_PORTS) this.#nextPort = port;
  }

  /** The connections that the guest knows of. */
  get connections(): readonly LostConnection[] {
    return this.#all();
  }

  #all(): Connection[] {
    return [this.#table, ...this.#siblingTables.values()].flatMap((table) => table.all());
  }

  #tableOf(farCid: number): Table | undefined {
    return farCid === HOST_CID ? this.#table : this.#siblingTables.get(farCid);
  }

  /**
   * The guest may have connections that went through another device and are gone: it is sent a reset for each. As many
   * as can wait; what the guest sends on any other is answered with one as well.
   */
  resetLost(lost: readonly LostConnection[]): void {
    for (const { farCid, hostPort, guestPort, type } of lost) {
      if (this.#tableOf(farCid)?.find(hostPort, guestPort) !== undefined) continue;
      if (!this.#resets.push(farCid, hostPort, guestPort, type)) return;
      this.journal?.add(farCid, hostPort, guestPort, type);
      this.counters.resets++;
    }
  }

  /** Connections of this guest, those that only drain included. */
  get connectionCount(): number {
    return this.#table.size + this.#siblingConnections + this.#draining.size;
  }

  /** False while so many answers wait for receive buffers that further guest packets should stay in their queue. */
  get acceptsPackets(): boolean {
    return this.#resets.length < MOST_WAITING_RESETS;
  }

  // ---- packets from the guest ----

  /**
   * Handles one packet: `header`, read once, and the segments of the whole packet, which begin with the header's 44
   * bytes and hold `header.len` payload bytes after it (the caller has checked). They must stay valid until `flush`.
   */
  receive(header: PacketHeader, packet: SegmentList): void {
    this.counters.fromGuestPackets++;
    if (header.srcCid !== this.#guestCid || header.srcCidHigh !== 0) {
      // As Linux vhost-vsock does: a packet in somebody else's name is dropped.
      this.#stray(
        "cid-limit",
        `dropped a packet whose source is not the guest's CID ${this.#guestCid}`,
        header,
      );
      return;
    }
    if (header.dstCid !== HOST_CID || header.dstCidHigh !== 0) {
      this.#receiveForSibling(header, packet);
      return;
    }
    // virtio 1.4, 5.10.6.4.2: the device must answer an unknown type with a reset.
    if (header.type !== SocketType.STREAM && !(header.type === SocketType.SEQPACKET && this.seqpacket)) {
      this.#stray("packet-refused", "answered with a reset: sockets of that type are not offered", header);
      this.#answerStray(header);
      return;
    }
    const connection = this.#table.find(header.dstPort, header.srcPort);
    if (connection === undefined) {
      if (header.op === Op.REQUEST) this.#request(header);
      else this.#answerStray(header);
      return;
    }
    // As Linux does: the packet is answered, and the connection that has these ports goes on.
    if (connection.type !== header.type) {
      this.#stray("packet-refused", "answered with a reset: the connection is of another type", header);
      this.#answerStray(header);
      return;
    }
    if (connection.sendCredit.update(header.bufAlloc, header.fwdCnt) && connection.wantsRead)
      this.dataDue(connection);
    if (header.op === Op.RW) this.#payload(connection, header, packet);
    else this.#control(connection, header);
  }

  #payload(connection: Connection, header: PacketHeader, packet: SegmentList): void {
    const { len } = header;
    if (
      (connection.state !== "established" && connection.state !== "closing") ||
      (connection.guestShutdown & Shutdown.SEND) !== 0
    ) {
      this.#violation(
        connection,
        `the guest sent data in state ${connection.state}, or after it had shut down sending`,
      );
      return;
    }
    if (!connection.receiveCredit.receive(len)) {
      this.#violation(connection, "the guest sent more than its credit allows");
      return;
    }
    this.counters.fromGuestBytes += len;
    if (connection.hostGone) {
      connection.receiveCredit.forward(len);
    } else if (header.type === SocketType.STREAM) {
      if (len > 0) this.#batch.add(connection, packet, len);
    } else {
      this.#messagePart(connection, header, packet);
    }
  }

  /**
   * Instead of `receive`, for a packet that another device had taken from the queue and not returned: whether it has had
   * its effect nobody knows, so it has none now, and the guest is told that the connection is gone.
   */
  refuseReplay(header: PacketHeader): void {
    this.counters.fromGuestPackets++;
    if (header.srcCid === this.#guestCid && header.srcCidHigh === 0) this.#answerStray(header);
  }

  #messagePart(connection: Connection, { len, flags }: PacketHeader, packet: SegmentList): void {
    if (connection instanceof SeqpacketConnection) {
      connection.takePart(packet, len, (flags & MessageEnd.EOM) !== 0);
    } else if (connection instanceof SiblingConnection && connection.notePart(len, flags)) {
      this.#batch.add(connection, packet, len);
    }
  }

  /** Moves the payload gathered so far to its host socket. After it, no segment given to `receive` is needed. */
  flush(): void {
    this.#batch.flush();
  }

  #control(connection: Connection, header: PacketHeader): void {
    this.#batch.flushOf(connection);
    // What that found out about the host socket may have ended the connection.
    if (connection.state === "closed") return;
    switch (header.op) {
      case Op.RESPONSE:
        if (connection.state !== "requesting" || (connection.due & Due.REQUEST) !== 0) {
          this.#violation(connection, "the guest sent a RESPONSE that nothing asked for");
        } else {
          this.counters.openedByHost++;
          connection.establish();
        }
        return;
      case Op.RST:
        this.#guestReset(connection);
        return;
      case Op.SHUTDOWN:
        if (connection.state === "established" || connection.state === "closing")
          connection.guestShutsDown(header.flags);
        else this.#violation(connection, `the guest sent SHUTDOWN in state ${connection.state}`);
        return;
      case Op.CREDIT_REQUEST:
        connection.makeDue(Due.CREDIT_UPDATE);
        return;
      case Op.REQUEST:
        // The guest has forgotten this connection, or never minded its ports: neither can go on.
        this.#violation(connection, "the guest sent a REQUEST for a connection that exists");
        return;
      default:
        // CREDIT_UPDATE has had its effect. Operations that no specification names are ignored, as Linux does.
        return;
    }
  }

  #guestReset(connection: Connection): void {
    if (connection.state === "requesting") {
      this.counters.refusedBy.guest++;
      connection.abandon("the guest refused it: nothing listens on that port", true);
    } else if (connection.state === "connecting") {
      connection.abandon("the guest gave up", true);
    } else {
      if (connection.state === "established") this.#logReset(connection, "the guest reset it", "guest");
      connection.guestIsGone();
    }
  }

  #violation(connection: Connection, reason: string): void {
    this.#batch.flushOf(connection);
    if (connection.state === "established" || connection.state === "closing")
      connection.abort(reason, "violation");
    else if (connection.state === "requesting" || connection.state === "connecting")
      connection.abandon(reason);
  }

  #stray(event: "cid-limit" | "packet-refused", what: string, header: PacketHeader): void {
    this.counters.strayPackets++;
    if (this.#log.passes("warn")) this.#log.log({ event, message: `${what}: ${describePacket(header)}` });
  }

  /** Answers a packet that nobody here expects with a reset, except a reset: two ends that both forgot would go on for ever. */
  #answerStray(header: PacketHeader): void {
    if (header.op === Op.RST) return;
    this.counters.resetsBy.stray++;
    this.#answerReset(header);
  }

  #answerReset(header: PacketHeader): void {
    this.counters.resets++;
    this.#resets.push(header.dstCid, header.dstPort, header.srcPort, header.type);
    if (header.dstCidHigh === 0)
      this.journal?.add(header.dstCid, header.dstPort, header.srcPort, header.type);
  }

  // ---- connections ----

  #request(header: PacketHeader): void {
    if (!this.#hasRoom()) {
      this.#refuse(header, `the guest has ${this.connectionCount} connections, which is the limit`);
      return;
    }
    const { dstPort, srcPort, type } = header;
    let fd = this.#endpoints.connect(dstPort, type, srcPort);
    // Connections that have ended in this turn may still have their descriptors.
    if (fd === -errno.EMFILE && this.loop.closeLeaving())
      fd = this.#endpoints.connect(dstPort, type, srcPort);
    if (fd < 0 && fd !== -errno.EAGAIN) {
      this.counters.refusedBy.host++;
      this.#refuse(header, connectProblem(-fd));
      return;
    }
    const connection = this.#newConnection(header.type, header.dstPort, header.srcPort, "connecting");
    connection.sendCredit.update(header.bufAlloc, header.fwdCnt);
    if (fd >= 0) {
      this.#accept(connection, fd);
      return;
    }
    connection.retryUntilMs = this.loop.timers.now() + this.limits.connectTimeoutMs;
    connection.setDeadline(CONNECT_RETRY_MS);
  }

  retry(connection: Connection): void {
    const { hostPort, type, guestPort } = connection;
    const fd = this.#endpoints.connect(hostPort, type, guestPort);
    if (fd >= 0) {
      this.#accept(connection, fd);
    } else if (fd !== -errno.EAGAIN || this.loop.timers.now() >= connection.retryUntilMs) {
      const reason =
        fd === -errno.EAGAIN
          ? (this.#endpoints.whyPending?.(connection.hostPort) ?? BACKLOG_STAYED_FULL)
          : connectProblem(-fd);
      this.counters.refusedBy.host++;
      this.#log.log({ event: "connection-refused", message: `${connection.describe()}: ${reason}` });
      connection.abandon(reason);
    } else {
      connection.setDeadline(CONNECT_RETRY_MS);
    }
  }

  #accept(connection: Connection, fd: number): void {
    const watched = connection.attach(fd);
    if (watched < 0) {
      const reason = connectProblem(-watched);
      this.counters.refusedBy.host++;
      this.#log.log({ event: "connection-refused", message: `${connection.describe()}: ${reason}` });
      connection.abandon(reason);
      return;
    }
    this.counters.openedByGuest++;
    connection.establish();
    connection.makeDue(Due.RESPONSE);
  }

  #refuse(header: PacketHeader, reason: string): void {
    this.#log.log({
      event: "connection-refused",
      message: `guest port ${header.srcPort}, ${describeFar(header)}: ${reason}`,
    });
    this.#answerReset(header);
  }

  /**
   * Begins a connection from the host to `guestPort` over the connected, non-blocking `fd`, a Unix socket of `type`
   * (`SocketType`), which the connection owns from now on. `opener` hears of the outcome, perhaps before this returns.
   */
  connectGuest(guestPort: number, fd: number, opener: Opener, type: number = SocketType.STREAM): void {
    this.#connectGuest(guestPort, fd, opener, undefined, 0, type);
  }

  /**
   * The same for a descriptor that the loop already watches for `WATCHED`: with its token, and what was reported of it
   * and is still true.
   */
  connectWatched(
    guestPort: number,
    fd: number,
    opener: Opener,
    token: number,
    events: number,
    type: number = SocketType.STREAM,
  ): void {
    this.#connectGuest(guestPort, fd, opener, token, events, type);
  }

  #connectGuest(
    guestPort: number,
    fd: number,
    opener: Opener,
    token: number | undefined,
    events: number,
    type: number,
  ): void {
    const problem = this.#problemToGuest(type);
    if (problem !== undefined) {
      if (token === undefined) closeDescriptor(fd);
      else this.loop.unwatchAndClose(fd, token);
      opener.failed(problem, guestPort);
      return;
    }
    const connection = this.#newConnection(type, this.#assignPort(guestPort), guestPort, "requesting");
    connection.opener = opener;
    connection.makeDue(Due.REQUEST);
    const attached = connection.attach(fd, token);
    if (attached < 0) {
      connection.abandon(`watching its socket failed with ${errnoName(-attached)}`);
      return;
    }
    connection.setDeadline(this.limits.connectTimeoutMs);
    if (events !== 0) connection.onEvents(events);
  }

  /** Why no connection to the guest can begin. */
  #problemToGuest(type: number): string | undefined {
    if (type === SocketType.SEQPACKET && !this.seqpacket)
      return "no driver that has seqpacket sockets is running in the guest";
    if (!this.#hasRoom()) return `the guest has ${this.connectionCount} connections, which is the limit`;
    return undefined;
  }

  #hasRoom(): boolean {
    if (this.connectionCount < this.limits.maxConnections) {
      this.#limitReached = false;
      return true;
    }
    this.counters.refusedBy.limit++;
    if (!this.#limitReached) {
      this.#limitReached = true;
      this.#log.log({
        event: "connection-limit",
        message: `the limit of ${this.limits.maxConnections} connections is reached`,
      });
    }
    return false;
  }

  #assignPort(guestPort: number): number {
    for (;;) {
      const port = this.#nextPort;
      this.#nextPort = FIRST_ASSIGNED_PORT + ((port - FIRST_ASSIGNED_PORT + 1) % ASSIGNED_PORTS);
      // Ends: far fewer connections than ports.
      if (this.#table.find(port, guestPort) === undefined) return port;
    }
  }

  #newConnection(
    type: number,
    hostPort: number,
    guestPort: number,
    state: "connecting" | "requesting",
  ): Connection {
    const Kind = type === SocketType.STREAM ? Connection : SeqpacketConnection;
    const connection = new Kind(this, hostPort, guestPort, state, this.#giveBuffer(type));
    this.#table.add(connection);
    this.journal?.add(HOST_CID, hostPort, guestPort, connection.type);
    return connection;
  }

  /** What a new connection gets. */
  #giveBuffer(type: number): number {
    const { bufferBytes: most, firstBufferBytes } = this.limits;
    const share = Math.min(most, Math.max(LEAST_BUFFER_BYTES, this.#bufferShare));
    // The longest message of a seqpacket socket is its peer's buffer: there that does not grow.
    const bufferBytes = type === SocketType.STREAM ? Math.min(share, firstBufferBytes) : share;
    this.#bufferBytesGiven += bufferBytes;
    return bufferBytes;
  }

  // ---- connections between siblings ----

  /** The same as `receive`, for a packet that is not for the host. */
  #receiveForSibling(header: PacketHeader, packet: SegmentList): void {
    const table = this.#siblingTable(header);
    if (table === undefined) {
      this.#stray(
        "cid-limit",
        "answered with a reset: the destination is neither the host nor a sibling",
        header,
      );
      this.#answerStray(header);
      return;
    }
    const connection = table.find(header.dstPort, header.srcPort);
    if (connection !== undefined && connection.type === header.type) {
      // Again, not in a method of both: what V8 does not inline on the host's path costs an object a packet there.
      if (connection.sendCredit.update(header.bufAlloc, header.fwdCnt) && connection.wantsRead)
        this.dataDue(connection);
      if (header.op === Op.RW) this.#payload(connection, header, packet);
      else this.#control(connection, header);
    } else if (connection === undefined && header.op === Op.REQUEST) this.#requestSibling(header);
    else this.#answerStray(header);
  }

  /** The connections with the sibling that the packet is for; undefined if there is no such sibling. */
  #siblingTable({ dstCid, dstCidHigh }: PacketHeader): Table | undefined {
    if (this.#siblings === undefined || dstCidHigh !== 0) return undefined;
    const table = this.#siblingTables.get(dstCid);
    if (table !== undefined && table.size > 0) return table;
    return this.#siblings.neighbours.areSiblings(this.#guestCid, dstCid) ? this.#tableFor(dstCid) : undefined;
  }

  #tableFor(cid: number): Table {
    const existing = this.#siblingTables.get(cid);
    if (existing !== undefined) return existing;
    const table: Table = new ConnectionTable<Connection>();
    this.#siblingTables.set(cid, table);
    return table;
  }

  #requestSibling(header: PacketHeader): void {
    const sibling = this.#siblings?.neighbours.sibling(this.#guestCid, header.dstCid);
    if (!this.#hasRoom()) {
      this.#refuse(header, `the guest has ${this.connectionCount} connections, which is the limit`);
      return;
    }
    const problem = this.#hasType(header.type)
      ? sibling?.problemToSibling(this.#guestCid, header)
      : "sockets of that type are not offered";
    if (sibling === undefined || problem !== undefined) {
      this.counters.refusedBy.host++;
      this.#refuse(header, problem ?? "there is no such sibling");
      return;
    }
    const { type, srcPort, dstPort } = header;
    const ours = this.#newSibling(header.dstCid, dstPort, srcPort, type, "connecting");
    ours.sendCredit.update(header.bufAlloc, header.fwdCnt);
    const theirs = sibling.#newSibling(this.#guestCid, srcPort, dstPort, type, "requesting");
    ours.other = theirs;
    theirs.other = ours;
    theirs.limitMessages(header.bufAlloc);
    theirs.opener = ours;
    theirs.setDeadline(sibling.limits.connectTimeoutMs);
    theirs.makeDue(Due.REQUEST);
  }

  #hasType(type: number): boolean {
    return type === SocketType.STREAM || (type === SocketType.SEQPACKET && this.seqpacket);
  }

  /** Why `header`, which guest `cid` has sent, cannot become a connection to this switch's guest. */
  problemToSibling(cid: number, { type, srcPort, dstPort }: PacketHeader): string | undefined {
    if (this.door === undefined) return "the sibling's driver is not running";
    if (this.#siblingTables.get(cid)?.find(srcPort, dstPort) !== undefined)
      return "the sibling has not seen the end of an earlier connection of the same ports";
    return this.#problemToGuest(type);
  }

  #newSibling(
    farCid: number,
    farPort: number,
    guestPort: number,
    type: number,
    state: "connecting" | "requesting",
  ): SiblingConnection {
    const buffer = this.#giveBuffer(type);
    const connection = new SiblingConnection(this, farCid, farPort, guestPort, type, state, buffer);
    this.#tableFor(farCid).add(connection);
    this.#siblingConnections++;
    this.journal?.add(farCid, farPort, guestPort, type);
    return connection;
  }

  accepted(connection: SiblingConnection): void {
    this.counters.openedByGuest++;
    connection.establish();
    connection.makeDue(Due.RESPONSE);
  }

  refused(connection: SiblingConnection, reason: string): void {
    this.counters.refusedBy.host++;
    this.#log.log({ event: "connection-refused", message: `${connection.describe()}: ${reason}` });
    connection.abandon(reason);
  }

  deliver(): void {
    this.door?.deliver();
  }

  /** What one connection may be given at a time: near the total ever less, so that there is some for each. */
  get #bufferShare(): number {
    const left = this.limits.totalBufferBytes - this.#bufferBytesGiven;
    return Math.floor(left / 8 / LEAST_BUFFER_BYTES) * LEAST_BUFFER_BYTES;
  }

  // ---- what connections ask for ----

  growBuffer(bytes: number): number {
    const grown = Math.min(2 * bytes, this.limits.bufferBytes);
    if (grown - bytes > this.#bufferShare) return bytes;
    this.#bufferBytesGiven += grown - bytes;
    return grown;
  }

  bufferReturned(bytes: number): void {
    this.#bufferBytesGiven -= bytes;
  }

  controlDue(connection: Connection): void {
    this.#pump.addControl(connection);
  }

  dataDue(connection: Connection): void {
    this.#pump.addData(connection);
  }

  detach(connection: Connection, tellGuest: boolean): void {
    this.#tableOf(connection.farCid)?.remove(connection);
    if (connection.farCid !== HOST_CID) this.#siblingConnections--;
    this.#pump.forget(connection);
    if (connection.abortReason !== undefined)
      this.#logReset(connection, connection.abortReason, connection.abortCause);
    if (!tellGuest) {
      this.journal?.remove(connection.farCid, connection.hostPort, connection.guestPort);
      return;
    }
    this.counters.resets++;
    this.#resets.push(connection.farCid, connection.hostPort, connection.guestPort, connection.type);
  }

  drains(connection: Connection): void {
    this.#draining.add(connection);
  }

  released(connection: Connection, undeliveredBytes: number): void {
    if (this.#draining.size > 0) this.#draining.delete(connection);
    this.#bufferBytesGiven -= connection.receiveCredit.bufAlloc;
    if (undeliveredBytes === 0) return;
    this.#log.log({
      event: "bytes-undelivered",
      message:
        `${connection.describe()}: ${undeliveredBytes} bytes that the guest had sent before it ended the connection ` +
        "were not taken by the host program",
      fields: { bytes: undeliveredBytes },
    });
  }

  #logReset(connection: Connection, reason: string, cause: ResetCause): void {
    this.counters.resetsBy[cause]++;
    this.#log.log({ event: "connection-reset", message: `${connection.describe()}: ${reason}` });
  }

  // ---- packets to the guest ----

  /** True if something is due to the guest: `pump` has work as soon as there are receive buffers. */
  get hasWork(): boolean {
    return this.#pump.hasWork;
  }

  /**
   * Fills guest buffers with what is due: "idle" when nothing is left, "starved" when the ring has no buffer,
   * "more" when the budget of `mostPackets`, or of `BURST_BYTES`, ended it.
   */
  pump(ring: ReceiveRing, mostPackets: number): "idle" | "starved" | "more" {
    return this.#pump.run(ring, mostPackets);
  }

  /** The guest's driver is gone or new: every connection ends, without a word to a guest that knows none of them. */
  reset(reason: string): void {
    this.flush();
    for (const connection of this.#all()) {
      if (connection.state === "requesting" || connection.state === "connecting") connection.abandon(reason);
      else {
        this.#logReset(connection, reason, "restart");
        connection.guestIsGone();
      }
    }
    this.#resets.clear();
    this.#pump.clear();
    this.journal?.clear();
  }

  /** Ends everything at once, what drains included: the device is closed. */
  close(): void {
    this.#siblings?.neighbours.leave(this.#guestCid);
    this.reset("the device is closed");
    for (const connection of [...this.#draining]) connection.discard();
    this.#batch.release();
    this.#pump.release();
  }
}

function describeFar({ dstCid, dstPort }: PacketHeader): string {
  return dstCid === HOST_CID ? `host port ${dstPort}` : `port ${dstPort} of CID ${dstCid}`;
}
