/**
 * The device's process is killed under load, and another one takes the guest's rings up (INFLIGHT_SHMFD): the rings go
 * on, nothing is done twice, and every old connection ends.
 */

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { END_OF_MESSAGES, peekMessage } from "../../src/linux/seqpacket.js";
import { acceptUnix, listenUnix, SOCK_SEQPACKET } from "../../src/linux/unix-socket.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { mask, PROTOCOL_F } from "../../src/virtio/index.js";
import type { FrontEnd } from "../../src/vmm/front-end.js";
import { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { SUITE_TIMEOUT_MS } from "./rig.js";

const CLI = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const QUEUES = 3;
const QUEUE_SIZE = 128;

function keeping(name: string): VmmProfile {
  const profile = builtinVmm(name);
  return { ...profile, protocolFeatures: profile.protocolFeatures | mask(PROTOCOL_F.INFLIGHT_SHMFD) };
}

/** A served device in a process of its own, that may be killed, and host programs that listen. */
class Served {
  readonly folder = mkdtempSync(join(tmpdir(), "bit33-killed-"));
  readonly socketPath = join(this.folder, "vm.sock");
  readonly udsPath = join(this.folder, "vm.vsock");
  readonly #servers: Server[] = [];
  readonly #sockets: Socket[] = [];
  #child: ChildProcess | undefined;

  constructor(readonly isolate: "process" | "thread" = "thread") {}

  async start(): Promise<void> {
    const args = ["serve", "--guest-cid", "3", "--socket", this.socketPath, "--uds-path", this.udsPath];
    const more = ["--isolate", this.isolate, "--log-format", "json"];
    const child = spawn(process.execPath, [CLI, ...args, ...more], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child = child;
    let log = "";
    await new Promise<void>((resolve, reject) => {
      child.once("exit", () => reject(new Error(`the device ended: ${log}`)));
      child.stderr?.on("data", (chunk: Buffer) => {
        log += chunk.toString();
        if (log.includes('"listening"')) resolve();
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

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadlineMs = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

describe("a device that is killed under load", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const [name, isolate, rounds] of [
    ["qemu-7.2", "thread", 3],
    ["cloud-hypervisor", "thread", 3],
    ["qemu-7.2", "process", 1],
  ] as const) {
    it(`${name}, a ${isolate} a VM: another takes the rings up, does nothing twice, and ends every old connection`, async () => {
      const served = new Served(isolate);
      await served.start();
      const options = {
        socketPath: served.socketPath,
        profile: keeping(name),
        platform: { kind: "direct" },
        queueSize: QUEUE_SIZE,
      } as const;
      const machine = new VirtualMachine(options);
      try {
        const received = await served.listen(800);
        // The file is the first device's, and the front-end keeps it for all that follow.
        const file = machine.frontEnd.session.getInflightFd(QUEUES, QUEUE_SIZE);
        assert.ok(file !== undefined);
        const useFile = ({ session }: FrontEnd) => session.setInflightFd(file, QUEUES, QUEUE_SIZE);
        const positions = machine.frontEnd.stop();
        useFile(machine.frontEnd);
        machine.frontEnd.resume(positions);

        for (let round = 0; round < rounds; round++) {
          received.length = 0;
          const idle = await machine.driver.connect(800);
          await idle.write(Buffer.from([0xff]));
          // Numbers in order: whatever comes twice, or is lost in between, shows.
          const numbers = new Uint32Array(256 * 1024);
          numbers.forEach((_, index) => {
            numbers[index] = index;
          });
          const busy = await machine.driver.connect(800);
          busy.write(Buffer.from(numbers.buffer)).catch(() => {});
          const bytes = () => received.flat().reduce((sum, { length }) => sum + length, 0);
          await until(() => bytes() > 100_000, "some of the load");
          await served.replace();
          machine.reconnect({ beforeStart: useFile });
          await until(() => machine.driver.connectionCount === 0, "the end of all old connections");

          const [, numbersArrived] = received;
          const arrived = Buffer.concat(numbersArrived);
          for (let at = 0; at + 4 <= arrived.length; at += 4) assert.equal(arrived.readUInt32LE(at), at / 4);
          const works = await machine.driver.connect(800);
          await works.write(Buffer.from("works"));
          await until(
            () => received.length === 3 && Buffer.concat(received[2]).toString() === "works",
            "a new connection's data",
          );
          await works.close();
        }
      } finally {
        machine.kill();
        await served.close();
      }
    });
  }

  it("idle connections of both types and from both sides end without a word of the guest's", async () => {
    const served = new Served();
    await served.start();
    const machine = new VirtualMachine({
      socketPath: served.socketPath,
      profile: keeping("qemu-7.2"),
      platform: { kind: "direct" },
      queueSize: QUEUE_SIZE,
    });
    const { driver } = machine;
    const messages = served.listenSeqpacket(801);
    try {
      const file = machine.frontEnd.session.getInflightFd(QUEUES, QUEUE_SIZE);
      assert.ok(file !== undefined);
      const useFile = ({ session }: FrontEnd) => session.setInflightFd(file, QUEUES, QUEUE_SIZE);
      const opened = await served.listen(800);
      // These two are there before the file comes.
      await driver.connect(800);
      const message = await driver.connectSeqpacket(801);
      const positions = machine.frontEnd.stop();
      useFile(machine.frontEnd);
      machine.frontEnd.resume(positions);
      const listener = driver.listen(700);
      const host = await served.connect(700);
      const fromHost = await listener.accept();
      await message.write(Buffer.from("whole"));
      const messageEnd = acceptUnix(messages);
      await until(() => peekMessage(messageEnd) === 5, "a message");
      assert.equal(driver.connectionCount, 3);

      await served.replace();
      machine.reconnect({ beforeStart: useFile });
      await until(() => driver.connectionCount === 0, "the end of all old connections");
      await assert.rejects(fromHost.write(Buffer.from("?")));
      await until(() => host.destroyed || host.readableEnded, "the end of the host's connection");
      // What had been delivered stays so, and its end follows.
      assert.equal(peekMessage(messageEnd), 5);
      closeSync(messageEnd);

      const again = await driver.connectSeqpacket(801);
      await again.write(Buffer.from("works"));
      const next = acceptUnix(messages);
      await until(() => peekMessage(next) === 5, "a message of a new connection");
      assert.notEqual(peekMessage(next), END_OF_MESSAGES);
      closeSync(next);
      assert.equal(opened.length, 1);
    } finally {
      machine.kill();
      closeSync(messages);
      await served.close();
    }
  });
});
