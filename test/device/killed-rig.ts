/**
 * For tests of this folder: `bit33 serve` in a process of its own, which may be killed, and host programs around it. The
 * front-end keeps the guest's INFLIGHT memory meanwhile.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { listenUnix, SOCK_SEQPACKET } from "../../src/linux/unix-socket.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { mask, PROTOCOL_F } from "../../src/virtio/index.js";
import type { FrontEnd } from "../../src/vmm/front-end.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";

const CLI = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const QUEUES = 3;
export const QUEUE_SIZE = 128;
export const FIRST_CID = 3;

/** A VMM that keeps the memory. */
export function keeping(name: string): VmmProfile {
  const profile = builtinVmm(name);
  return { ...profile, protocolFeatures: profile.protocolFeatures | mask(PROTOCOL_F.INFLIGHT_SHMFD) };
}

/** Has the rings of a machine go on with INFLIGHT memory; returns what gives it to the next device. */
export function keepInflight({ frontEnd }: VirtualMachine): (frontEnd: FrontEnd) => void {
  // The file is the first device's, and the front-end keeps it for all that follow.
  const file = frontEnd.session.getInflightFd(QUEUES, QUEUE_SIZE);
  assert.ok(file !== undefined);
  const useFile = ({ session }: FrontEnd) => session.setInflightFd(file, QUEUES, QUEUE_SIZE);
  const positions = frontEnd.stop();
  useFile(frontEnd);
  frontEnd.resume(positions);
  return useFile;
}

/** A device for a VM, or for siblings, in a process of its own that may be killed, and host programs that listen. */
export class Served {
  readonly folder = mkdtempSync(join(tmpdir(), "bit33-killed-"));
  /** By VM; the first one's CID is `FIRST_CID`. */
  readonly socketPaths: readonly string[];
  /** Of the first. */
  readonly udsPath = join(this.folder, "vm0.vsock");
  readonly #servers: Server[] = [];
  readonly #sockets: Socket[] = [];
  #child: ChildProcess | undefined;

  constructor(
    readonly isolate: "process" | "thread" = "thread",
    vms = 1,
  ) {
    this.socketPaths = Array.from({ length: vms }, (_, vm) => join(this.folder, `vm${vm}.sock`));
  }

  async start(): Promise<void> {
    const vms = this.socketPaths.flatMap((socket, vm) => [
      "--vm",
      `guest-cid=${FIRST_CID + vm},socket=${socket},uds-path=${join(this.folder, `vm${vm}.vsock`)},groups=siblings`,
    ]);
    const more = ["--isolate", this.isolate, "--log-format", "json"];
    const child = spawn(process.execPath, [CLI, "serve", ...vms, ...more], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    let log = "";
    await new Promise<void>((resolve, reject) => {
      child.once("exit", () => reject(new Error(`the device ended: ${log}`)));
      child.stderr?.on("data", (chunk: Buffer) => {
        log += chunk.toString();
        if (log.split('"listening"').length > vms.length / 2) resolve();
      });
    });
  }

  /** The processes that the program has started: its VM's, if that has one of its own. */
  #processes(): string {
    return readFileSync(`/proc/${this.#child?.pid}/task/${this.#child?.pid}/children`, "latin1").trim();
  }

  /** Kills the process that serves the guest, and has another one do it. */
  async replace(): Promise<void> {
    if (this.isolate === "process") {
      const before = this.#processes();
      process.kill(Number(before), "SIGKILL");
      await until(() => !["", before].includes(this.#processes()), "another process");
    } else {
      await this.kill();
      await this.start();
    }
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  /** Listens on a host port; what each connection brought is in `received`. */
  async listen(port: number): Promise<Buffer[][]> {
    const received: Buffer[][] = [];
    const server = createServer({ allowHalfOpen: true }, (socket) => {
      const mine: Buffer[] = [];
      received.push(mine);
      this.#sockets.push(socket);
      socket.on("error", () => {});
      socket.on("data", (chunk) => mine.push(chunk));
    });
    server.listen(`${this.udsPath}_${port}`);
    await once(server, "listening");
    this.#servers.push(server);
    return received;
  }

  /** Listens on a host port for seqpacket connections. The descriptor is the caller's. */
  listenSeqpacket(port: number): number {
    return listenUnix(`${this.udsPath}_${port}`, { type: SOCK_SEQPACKET });
  }

  /** A host program's connection to a port of the guest. */
  async connect(port: number): Promise<Socket> {
    const socket = createConnection(this.udsPath);
    socket.on("error", () => {});
    this.#sockets.push(socket);
    socket.write(`CONNECT ${port}\n`);
    await once(socket, "readable");
    assert.match(String(socket.read()), /^OK \d+\n$/);
    return socket;
  }

  async close(): Promise<void> {
    await this.kill();
    for (const socket of this.#sockets) socket.destroy();
    for (const server of this.#servers) server.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
