/**
 * `bit33 connect` as a process between pipes and a real guest: data, half-close, exit status, and each way in which it
 * can fail.
 */
import assert from "node:assert/strict";
import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server, Socket } from "node:net";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { receiveMessage } from "../../src/linux/message-socket.js";
import { listenUnix, SOCK_SEQPACKET, socketPair } from "../../src/linux/unix-socket.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertSame, noise, Rig, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

const PROGRAM = fileURLToPath(new URL("../../src/cli/main.js", import.meta.url));
const PORT = 22;

/** A run of the command, with what it has written so far. */
class Run {
  readonly child: ChildProcessWithoutNullStreams;
  readonly #out: Buffer[] = [];
  readonly #closed: Promise<unknown>;
  complaint = "";

  constructor(...argv: string[]) {
    this.child = spawn(process.execPath, [PROGRAM, "connect", ...argv]);
    this.child.stdout.on("data", (chunk: Buffer) => this.#out.push(chunk));
    this.child.stderr.on("data", (chunk) => {
      this.complaint += chunk;
    });
    this.child.stdin.on("error", () => {});
    this.#closed = once(this.child, "close");
  }

  get output(): Buffer {
    return Buffer.concat(this.#out);
  }

  async status(): Promise<number | null> {
    await this.#closed;
    return this.child.exitCode;
  }
}

describe("bit33 connect", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  before(async () => {
    rig = await Rig.start({ connectTimeoutMs: 500 });
    machine = rig.boot();
  });
  after(() => rig.close());

  it("carries data both ways at once, and ends when both have ended", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    const [toGuest, toHost] = [noise(1_000_000), noise(1_000_000)];
    run.child.stdin.end(toGuest);
    const sent = guest.write(toHost).then(() => guest.shutdown(2));
    assertSame(Buffer.from(await guest.readToEnd()), toGuest, "what arrived at the guest");
    await sent;
    assert.equal(await run.status(), 0);
    assertSame(run.output, toHost, "what was written");
    assert.equal(run.complaint, "");
    await guest.close();
    listener.close();
  });

  it("passes the end of standard input on, and goes on writing what the guest sends", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    run.child.stdin.end("question");
    assert.equal(Buffer.from(await guest.readToEnd()).toString(), "question");
    await guest.write(Buffer.from("answer"));
    await guest.close();
    assert.equal(await run.status(), 0);
    assert.equal(run.output.toString(), "answer");
    listener.close();
  });

  it("passes the guest's end on, and goes on reading standard input", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    await guest.write(Buffer.from("that is all"));
    guest.shutdown(2);
    await once(run.child.stdout, "end");
    assert.equal(run.output.toString(), "that is all");
    run.child.stdin.end("I heard");
    assert.equal(Buffer.from(await guest.readToEnd()).toString(), "I heard");
    await guest.close();
    assert.equal(await run.status(), 0);
    listener.close();
  });

  it("ends when the guest closes, although standard input is still open", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    await guest.write(Buffer.from("bye"));
    await guest.close();
    assert.equal(await run.status(), 0);
    assert.equal(run.output.toString(), "bye");
    listener.close();
  });

  it("works with files in place of pipes", async () => {
    const listener = machine.driver.listen(PORT);
    const [from, to] = [`${rig.udsPath()}.in`, `${rig.udsPath()}.out`];
    const data = noise(300_000);
    writeFileSync(from, data);
    const [input, output] = [openSync(from, "r"), openSync(to, "w")];
    const argv = [PROGRAM, "connect", rig.udsPath(), String(PORT)];
    const child = spawn(process.execPath, argv, { stdio: [input, output, "inherit"] });
    for (const fd of [input, output]) closeSync(fd);
    const guest = await listener.accept();
    const received = Buffer.from(await guest.readToEnd());
    await guest.write(received);
    await guest.close();
    const [status] = await once(child, "close");
    assert.equal(status, 0);
    assertSame(readFileSync(to), data, "what came back");
    listener.close();
  });

  it("does not spin while nothing happens", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    guest.shutdown(2);
    await once(run.child.stdout, "end");
    const ticks = () => {
      const fields = readFileSync(`/proc/${run.child.pid}/stat`, "latin1").split(") ")[1].split(" ");
      return Number(fields[11]) + Number(fields[12]);
    };
    const before = ticks();
    await new Promise((resolve) => setTimeout(resolve, 500));
    // A loop without a wait would have used most of these 50 ticks.
    assert.ok(ticks() - before < 20, "it uses the processor while it waits");
    run.child.stdin.end();
    await guest.close();
    assert.equal(await run.status(), 0);
    listener.close();
  });

  it("fails when nobody takes its output", async () => {
    const listener = machine.driver.listen(PORT);
    const run = new Run(rig.udsPath(), String(PORT));
    const guest = await listener.accept();
    run.child.stdout.destroy();
    await guest.write(Buffer.from("anybody there?"));
    assert.equal(await run.status(), 1);
    assert.match(run.complaint, /writing standard output failed with EPIPE/);
    await guest.close().catch(() => {});
    listener.close();
  });

  it("with --pass-fd hands the connected socket over, as ssh's ProxyUseFdpass expects it", async () => {
    const listener = machine.driver.listen(PORT);
    const [ours, theirs] = socketPair();
    const argv = [PROGRAM, "connect", "--pass-fd", rig.udsPath(), String(PORT)];
    const child = spawn(process.execPath, argv, { stdio: ["ignore", theirs, "inherit"] });
    closeSync(theirs);
    const [status] = await once(child, "close");
    assert.equal(status, 0);
    const { result, descriptors } = receiveMessage(ours);
    assert.deepEqual([result, descriptors.length], [1, 1]);
    closeSync(ours);
    const socket = new Socket({ fd: descriptors[0] });
    const guest = await listener.accept();
    socket.end("through the passed socket");
    assert.equal(Buffer.from(await guest.readToEnd()).toString(), "through the passed socket");
    await guest.write(Buffer.from("and back"));
    await guest.close();
    assert.equal((await readToEnd(socket)).toString(), "and back");
    listener.close();
  });

  describe("says why there is no connection:", () => {
    async function fails(line: RegExp, ...argv: string[]): Promise<void> {
      const run = new Run(...argv);
      assert.equal(await run.status(), 1, run.complaint);
      assert.match(run.complaint, line);
      assert.equal(run.complaint.split("\n").length, 2, "one line");
      assert.equal(run.output.length, 0);
    }

    it("the guest refuses", () =>
      fails(
        /no connection to port 7777 of the guest: the device closed it without an answer/,
        rig.udsPath(),
        "7777",
      ));

    it("there is no such path", () =>
      fails(/none does not exist; give the path/, `${rig.udsPath()}none`, "1"));

    it("nobody listens any more", async () => {
      const path = `${rig.udsPath()}.stale`;
      closeSync(listenUnix(path));
      await fails(/nobody listens at .*stale any more; start the device again/, path, "1");
    });

    it("it is a seqpacket socket", async () => {
      const path = `${rig.udsPath()}.seq`;
      const fd = listenUnix(path, { type: SOCK_SEQPACKET });
      await fails(/is a socket of another type/, path, "1");
      closeSync(fd);
    });

    it("its backlog stays full", async () => {
      const path = `${rig.udsPath()}.full`;
      const fd = listenUnix(path, { backlog: 0 });
      const first = new Run("--timeout", "1", path, "1");
      await fails(/no answer from|has a full backlog/, "--timeout", "0.5", path, "1");
      assert.equal(await first.status(), 1);
      closeSync(fd);
      rmSync(path);
    });

    async function answering(answer: (socket: Socket) => void, check: (path: string) => Promise<void>) {
      const path = `${rig.udsPath()}.other`;
      const server: Server = createServer((socket) => {
        socket.on("error", () => {});
        answer(socket);
      });
      server.listen(path);
      await once(server, "listening");
      await check(path);
      server.close();
    }

    it("it never answers", () =>
      answering(
        () => {},
        (path) =>
          fails(/no answer from .*other within 200 ms; --timeout allows more/, "--timeout", "0.2", path, "1"),
      ));

    it("it answers something else", () =>
      answering(
        (socket) => socket.end("SSH-2.0-OpenSSH_9.2\r\n"),
        (path) => fails(/is no vsock device: it answered "SSH-2\.0-OpenSSH_9\.2\\r\\n"/, path, "1"),
      ));

    it("it answers half a line and leaves", () =>
      answering(
        (socket) => socket.end("OK 12"),
        (path) => fails(/no answer|without an answer/, "--timeout", "0.3", path, "1"),
      ));

    for (const [argv, line] of [
      [[], "connect needs two words: bit33 connect UDS-PATH PORT"],
      [["x"], "connect needs two words: bit33 connect UDS-PATH PORT"],
      [["x", "1", "2"], 'unexpected argument "2" after the port'],
      [["x", "ssh"], 'PORT: "ssh" is not a port; give a number from 0 to 4294967294'],
      [["x", "4294967295"], 'PORT: "4294967295" is not a port; give a number from 0 to 4294967294'],
      [["", "1"], "UDS-PATH: the path has 0 bytes; a Unix socket's has 1 to 107"],
      [["x", "1", "--timeout=0"], '--timeout: "0" is not a number of seconds up to 3600'],
    ] as const) {
      it(`the command line is ${JSON.stringify(argv)}`, async () => {
        const run = new Run(...argv);
        assert.equal(await run.status(), 2);
        assert.equal(run.complaint, `bit33: ${line}\n`);
      });
    }

    it("--pass-fd without a socket to pass it on", async () => {
      const listener = machine.driver.listen(PORT);
      const output = openSync("/dev/null", "w");
      const argv = [PROGRAM, "connect", "--pass-fd", rig.udsPath(), String(PORT)];
      const child = spawn(process.execPath, argv, { stdio: ["ignore", output, "pipe"] });
      let stderr = "";
      child.stderr?.on("data", (chunk) => {
        stderr += chunk;
      });
      const [status] = await once(child, "close");
      closeSync(output);
      assert.equal(status, 1);
      assert.match(stderr, /standard output is not a Unix socket, which --pass-fd needs/);
      listener.close();
    });
  });
});
