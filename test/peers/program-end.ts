/**
 * vhost-device-vsock as the device of a cell: started for it, reached through its sockets, ended with it. The host's
 * programs are the cell's own; what they say goes through the program's hybrid sockets.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DeviceEnd, type DeviceEndParts, GUEST_CID } from "../../src/compat/device-end.js";
import { HOST_PORT, HostProgram } from "../../src/compat/host-programs.js";
import { EPOLLIN } from "../../src/linux/epoll.js";
import type { EventLoop } from "../../src/linux/event-loop.js";
import { acceptUnix, connectUnix, createSocket, listenUnix, peekByte } from "../../src/linux/unix-socket.js";
import { peerProgram } from "./paths.js";

const PATIENCE_MS = 10_000;
/** Between a process closing its sockets and its being gone. */
const DYING_MS = 1000;

/** Started, and listening: opening a device of a cell does not wait. */
export class PeerProcess {
  readonly folder = mkdtempSync(join(tmpdir(), "b33-"));
  readonly #child: ChildProcess;
  #said = "";

  private constructor() {
    const vm = `guest-cid=${GUEST_CID},socket=${this.socket},uds-path=${this.udsPath}`;
    this.#child = spawn(peerProgram, ["--vm", vm], { stdio: ["ignore", "pipe", "pipe"] });
    for (const output of [this.#child.stdout, this.#child.stderr])
      output?.on("data", (text: Buffer) => {
        this.#said += text.toString();
      });
  }

  static async start(): Promise<PeerProcess> {
    const peer = new PeerProcess();
    const deadlineMs = performance.now() + PATIENCE_MS;
    while (!existsSync(peer.socket)) {
      if (peer.isGone || performance.now() > deadlineMs) {
        peer.stop();
        throw new Error(`${peerProgram} does not listen: ${peer.#said}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    return peer;
  }

  get socket(): string {
    return join(this.folder, "vhost");
  }

  get udsPath(): string {
    return join(this.folder, "vsock");
  }

  /** Asks the system, not Node, whose news come later: the process is a zombie by then. */
  get isGone(): boolean {
    try {
      const state = readFileSync(`/proc/${this.#child.pid}/stat`, "latin1").split(") ").at(-1)?.[0];
      return state === "Z" || state === "X";
    } catch {
      return true;
    }
  }

  stop(): void {
    this.#child.kill("SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export class ProgramEnd implements DeviceEnd {
  readonly reach: { readonly transport: "vhost-user"; readonly fd: number };
  /** It knows no other. */
  readonly view = { translation: "off", because: "it has no IOTLB" } as const;
  readonly left = undefined;
  readonly #peer: PeerProcess;
  readonly #loop: EventLoop;
  readonly #listener: number;
  readonly #listenerToken: number;
  readonly #bridges: Bridge[] = [];

  constructor(peer: PeerProcess, { loop, host }: DeviceEndParts) {
    this.#peer = peer;
    this.#loop = loop;
    this.reach = { transport: "vhost-user", fd: connected(peer.socket) };
    this.#listener = listenUnix(`${peer.udsPath}_${HOST_PORT}`);
    this.#listenerToken = loop.watch(this.#listener, EPOLLIN, {
      onEvents: () => {
        const fd = acceptUnix(this.#listener);
        if (fd >= 0) host.served.push(new HostProgram(loop, fd, true));
      },
    });
  }

  get exited(): string | undefined {
    // It is asked as soon as the connection ends, and exits of its own accord a moment later.
    const deadlineMs = performance.now() + DYING_MS;
    while (!this.#peer.isGone) {
      if (peekByte(this.reach.fd) !== 0 || performance.now() > deadlineMs) return undefined;
    }
    return "its process is gone";
  }

  callGuest(guestPort: number, fd: number): void {
    const call = connected(this.#peer.udsPath);
    writeSync(call, `CONNECT ${guestPort}\n`);
    this.#bridges.push(new Bridge(this.#loop, call, fd));
  }

  close(): void {
    for (const bridge of this.#bridges) bridge.close();
    this.#loop.unwatch(this.#listener, this.#listenerToken);
    closeSync(this.#listener);
  }
}

function connected(path: string): number {
  const fd = createSocket();
  const result = connectUnix(fd, path);
  if (result < 0) throw new Error(`connecting to ${path} failed with ${result}`);
  return fd;
}

/** Hands bytes on between a call to the guest, once it has been answered with OK, and a program. */
class Bridge {
  readonly #tokens: readonly [number, number];
  #isAnswered = false;

  constructor(
    private readonly loop: EventLoop,
    private readonly call: number,
    private readonly program: number,
  ) {
    this.#tokens = [
      loop.watch(call, EPOLLIN, { onEvents: () => this.#fromCall() }),
      loop.watch(program, EPOLLIN, { onEvents: () => this.#fromProgram() }),
    ];
  }

  #fromCall(): void {
    let bytes = available(this.call);
    if (!this.#isAnswered && bytes.includes("\n")) {
      this.#isAnswered = true;
      bytes = bytes.subarray(bytes.indexOf("\n") + 1);
      this.#fromProgram();
    }
    // Little enough for a socket to hold at once.
    if (bytes.length > 0) writeSync(this.program, bytes);
  }

  #fromProgram(): void {
    const bytes = this.#isAnswered ? available(this.program) : Buffer.alloc(0);
    if (bytes.length > 0) writeSync(this.call, bytes);
  }

  close(): void {
    this.loop.unwatch(this.call, this.#tokens[0]);
    this.loop.unwatch(this.program, this.#tokens[1]);
    closeSync(this.call);
    closeSync(this.program);
  }
}

/** What can be read now; nothing at the end, too. */
function available(fd: number): Buffer {
  const bytes = Buffer.alloc(65536);
  try {
    return bytes.subarray(0, readSync(fd, bytes));
  } catch {
    return Buffer.alloc(0);
  }
}
