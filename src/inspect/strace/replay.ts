/**
 * Plays a system-call trace to an inspection: each open vhost device is a session. What descriptor is which device, in
 * which process, is followed here (processes.ts); what could not be followed or seen is said in notes. Must not know what
 * comes of it.
 */
import type { DeviceType } from "../../virtio/index.js";
import type { Remark, SessionEnd, SessionStart } from "../frame.js";
import type { SessionMessage } from "../message.js";
import { descriptorIn } from "./call.js";
import { descriptorChange, isClone, sharesFiles } from "./descriptor-calls.js";
import { TraceError } from "./error.js";
import { isTransfer, messagesOfIoctl, messagesOfTransfer, type NamedRequest, requestIn } from "./messages.js";
import { type OpenDevice, Processes } from "./processes.js";
import { type CallEvent, type TraceEvent, TraceReader } from "./reader.js";

/** Whoever takes the sessions; calls of one come in its order. */
export interface TraceObserver {
  begun(start: SessionStart): void;
  message(session: number, message: SessionMessage): void;
  remark(session: number, remark: Remark): void;
  ended(session: number, end: SessionEnd): void;
  /** About the file rather than a session. */
  note(place: string, text: string): void;
}

interface Device extends OpenDevice {
  /** 0 until the first call on it. */
  session: number;
  readonly openedNs: bigint;
  hasOwner: boolean;
  lastNs: bigint;
  /** Requests whose arguments were bare pointers, with how often. */
  readonly bare: Map<string, number>;
  cut: number;
  /** The first line that may have been about it and could not be understood. */
  damage: string | undefined;
}

const DEVICE_PATH = /^\/dev\/vhost-/;
/** More are not told apart: a damaged file gives one note a line otherwise. */
const MOST_NOTES = 20;
const UNKNOWN_PATH = "/dev/vhost-?";

const DEVICE_TYPES: Readonly<Record<string, DeviceType>> = {
  "/dev/vhost-vsock": "vsock",
  "/dev/vhost-net": "net",
  "/dev/vhost-scsi": "scsi",
};

/** Throws a TraceError if the file cannot be read, or has nothing of vhost in it. */
export function replayTrace(path: string, observer: TraceObserver): void {
  new TraceReplay(path, observer).run();
}

class TraceReplay {
  readonly #reader: TraceReader;
  readonly #processes = new Processes<Device>((device) =>
    this.#end(device, "the front-end closed the device"),
  );
  readonly #open = new Set<Device>();
  /** Processes within a clone() that has not returned, with whether it shares descriptors. */
  readonly #cloning = new Map<number, boolean>();
  #sessions = 0;
  /** Of the event that is taken; the reader is ahead. */
  #nowNs = 0n;
  #calls = 0;
  #notes = 0;
  /** Calls that only say where descriptors go are in the trace. */
  #isFollowed = false;

  constructor(
    readonly path: string,
    readonly observer: TraceObserver,
  ) {
    this.#reader = new TraceReader(path);
  }

  run(): void {
    try {
      for (const event of this.#reader.events()) this.#take(event);
    } finally {
      this.#nowNs = this.#reader.nowNs;
      for (const device of [...this.#open]) this.#end(device, "the trace ends here", "observer");
    }
    const { calls, foreign, firstForeign } = this.#reader;
    if (foreign > 0 && calls > 0)
      this.observer.note(
        `${this.path}:${firstForeign}`,
        `not strace's, and not looked at; there are ${foreign} such lines`,
      );
    if (this.#notes > MOST_NOTES)
      this.observer.note(this.path, `${this.#notes - MOST_NOTES} more lines could not be understood`);
    if (this.#sessions > 0) return;
    const problem =
      calls === 0
        ? "there is no line of strace in it; give a file that strace -o wrote"
        : "no call in it uses a /dev/vhost- device; trace the VMM from its start, with -f and -e trace=ioctl,openat,read,write";
    throw new TraceError("trace-foreign", this.path, problem);
  }

  #take(event: TraceEvent): void {
    switch (event.kind) {
      case "call":
        this.#call(event);
        return;
      case "begun": {
        const pid = this.#meet(event.pid);
        if (isClone(event.name)) this.#cloning.set(pid, sharesFiles(event.text));
        return;
      }
      case "gone":
        this.#nowNs = event.endNs;
        this.#processes.exited(this.#processes.pidOf(event.pid));
        return;
      case "attached":
        this.#processes.announced(event.pid);
        return;
      case "damaged":
        this.#damaged(event.line, event.problem);
    }
  }

  /** The process of a line; one that is new is taken for the child of whoever is within a clone(). */
  #meet(given: number | undefined): number {
    const pid = this.#processes.pidOf(given);
    if (this.#processes.isKnown(pid)) return pid;
    const [parent, ...others] = this.#cloning;
    if (parent !== undefined && others.length === 0) this.#processes.cloned(parent[0], pid, parent[1]);
    else if (this.#processes.isEmpty) this.#processes.meet(pid);
    return pid;
  }

  #call(event: CallEvent): void {
    this.#nowNs = event.endNs;
    const pid = this.#meet(event.pid);
    const { name, args, result } = event.call;
    if (!PLAIN.has(name)) this.#isFollowed = true;
    if (isClone(name)) {
      this.#cloning.delete(pid);
      const child = Number(result.value ?? 0n);
      if (child > 0) this.#processes.cloned(pid, child, sharesFiles(args.join()));
    } else if (name === "ioctl") this.#ioctl(event, pid);
    else if (isTransfer(event.call)) this.#transfer(event, pid);
    else this.#descriptors(event, pid);
  }

  /** What was behind a number that is given anew was closed, seen or not. */
  #descriptors({ call, startNs }: CallEvent, pid: number): void {
    const change = descriptorChange(call);
    if (change === undefined) return;
    switch (change.kind) {
      case "closed":
        this.#processes.closed(pid, change.first, change.last);
        return;
      case "executed":
        this.#processes.executed(pid);
        return;
      default: {
        const { fd } = change;
        const device =
          change.kind === "opened" ? this.#opened(change.path, startNs) : this.#find(pid, change.from);
        if (device === undefined) this.#processes.closed(pid, fd, fd);
        else this.#processes.put(pid, fd, device, change.closesOnExec);
      }
    }
  }

  #opened(path: string, atNs: bigint): Device | undefined {
    return DEVICE_PATH.test(path) ? this.#device(path, atNs) : undefined;
  }

  #device(path: string, openedNs: bigint): Device {
    const state = {
      references: 0,
      session: 0,
      hasOwner: false,
      bare: new Map<string, number>(),
      cut: 0,
    };
    const device: Device = { path, openedNs, lastNs: openedNs, damage: undefined, ...state };
    this.#open.add(device);
    return device;
  }

  /** The device behind a descriptor, as far as the trace or -y shows it. */
  #find(pid: number, text: string): Device | undefined {
    const descriptor = descriptorIn(text);
    if (descriptor === undefined) return undefined;
    const { fd, path } = descriptor;
    const device = this.#processes.find(pid, fd) ?? this.#processes.join(pid, fd);
    if (path === undefined || path === device?.path || device?.path === UNKNOWN_PATH) return device;
    // Something else is there by now.
    this.#processes.closed(pid, fd, fd);
    return undefined;
  }

  #ioctl(event: CallEvent, pid: number): void {
    const { args, result } = event.call;
    const request = requestIn(args[1] ?? "");
    const [descriptor = ""] = args;
    // Whatever descriptor it is: it never was one.
    if (request === undefined || result.errno === "EBADF") return;
    const device = this.#find(pid, descriptor) ?? this.#adopt(event, pid, request);
    if (device === undefined) return;
    const { messages, barePointer } = messagesOfIoctl(event, request, ++this.#calls);
    if (request.name === "VHOST_SET_OWNER" && result.value === 0n) device.hasOwner = true;
    if (barePointer !== undefined) device.bare.set(barePointer, (device.bare.get(barePointer) ?? 0) + 1);
    this.#say(device, messages);
  }

  #transfer(event: CallEvent, pid: number): void {
    const device = this.#find(pid, event.call.args[0] ?? "");
    const said = device && messagesOfTransfer(event, this.#calls + 1);
    if (device === undefined || said === undefined) return;
    this.#calls++;
    this.#say(device, said.messages);
    if (said.cut === undefined || device.cut++ > 0) return;
    const { shown, passed } = said.cut;
    this.#remark(
      device,
      true,
      `strace shows ${shown} of the ${passed} bytes of an IOTLB message: use strace -s 128`,
    );
  }

  /** A vhost request on a descriptor that nobody was seen to make. */
  #adopt({ startNs, line, call }: CallEvent, pid: number, request: NamedRequest): Device | undefined {
    const descriptor = descriptorIn(call.args[0]);
    if (descriptor === undefined) return undefined;
    const { fd, path } = descriptor;
    // SET_OWNER is taken once: it cannot be for a device that has an owner.
    const needsNew = request.name === "VHOST_SET_OWNER" && call.result.value === 0n;
    const candidates = [...this.#open].filter(
      (device) => (path === undefined || device.path === path) && !(needsNew && device.hasOwner),
    );
    const isDuplicate = candidates.length === 1;
    const device = (isDuplicate ? candidates[0] : undefined) ?? this.#device(path ?? UNKNOWN_PATH, startNs);
    this.#processes.put(pid, fd, device, false);
    this.#begin(device);
    const who = pid > 0 ? `${fd} of process ${pid}` : String(fd);
    if (isDuplicate) {
      const text = `line ${line}: descriptor ${who} was not seen to be made, and is taken for a duplicate: ${MORE_CALLS}`;
      this.#remark(device, false, text);
    } else {
      const text = `line ${line}: descriptor ${who} was not seen to be opened: trace the program from its start`;
      this.#remark(device, !BEGINNINGS.includes(request.name), text);
    }
    return device;
  }

  #begin(device: Device): void {
    if (device.session > 0) return;
    device.session = ++this.#sessions;
    const { session, openedNs, path } = device;
    const deviceType = DEVICE_TYPES[path];
    this.observer.begun({
      session,
      timeNs: openedNs,
      transport: "kernel-vhost",
      ...(deviceType === undefined ? {} : { deviceType }),
    });
    if (!this.#reader.hasTimes)
      this.#remark(
        device,
        false,
        "the trace has no times, so nothing can be said to be overdue: use strace -ttt",
      );
    if (device.damage !== undefined) this.#remark(device, true, device.damage);
  }

  #say(device: Device, messages: readonly SessionMessage[]): void {
    this.#begin(device);
    for (const message of messages) {
      if (message.timeNs > device.lastNs) device.lastNs = message.timeNs;
      this.observer.message(device.session, { ...message, timeNs: device.lastNs });
    }
  }

  #remark(device: Device, isGap: boolean, text: string): void {
    this.observer.remark(device.session, { timeNs: device.lastNs, text, isGap });
  }

  /** What such a line said is missing for every session that it can have belonged to. */
  #damaged(line: number, problem: string): void {
    if (this.#notes++ < MOST_NOTES) this.observer.note(`${this.path}:${line}`, problem);
    for (const device of this.#open) {
      if (device.damage !== undefined) continue;
      device.damage = `line ${line} could not be understood: ${problem}`;
      if (device.session > 0) this.#remark(device, true, device.damage);
    }
  }

  #end(device: Device, reason: string, by: SessionEnd["by"] = "front-end"): void {
    this.#open.delete(device);
    if (device.session === 0) return;
    if (this.#nowNs > device.lastNs) device.lastNs = this.#nowNs;
    for (const text of this.#unseen(device)) this.#remark(device, false, text);
    this.observer.ended(device.session, { timeNs: device.lastNs, by, reason });
  }

  /** What the trace did not show of a session, for its end. */
  #unseen({ bare, cut }: Device): string[] {
    const texts: string[] = [];
    if (bare.size > 0) {
      const names = [...bare].map(([name, count]) => (count > 1 ? `${name} (${count})` : name)).join(", ");
      texts.push(`only pointers are shown for ${names}: docs/strace.md says how to add what they lead to`);
    }
    if (cut > 1) texts.push(`${cut} IOTLB messages are shown in part only: use strace -s 128`);
    if (!this.#isFollowed)
      texts.push(`when descriptors are closed or duplicated is not in the trace: ${MORE_CALLS}`);
    return texts;
  }
}

/** Requests that a VMM begins with; after any other, something came before. */
const BEGINNINGS: readonly string[] = ["VHOST_SET_OWNER", "VHOST_GET_FEATURES", "VHOST_GET_BACKEND_FEATURES"];

const MORE_CALLS = "add close,dup,dup2,dup3,fcntl,clone,clone3,fork,vfork to strace -e trace=";

/** What docs/strace.md begins with. */
const PLAIN: ReadonlySet<string> = new Set(["ioctl", "open", "openat", "openat2", "read", "write"]);
