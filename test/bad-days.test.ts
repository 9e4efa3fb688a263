/**
 * `bit33 serve` on its bad days, as a process with a guest, a bystander in another VM, and host programs: floods, limits
 * of the system, logs that nobody takes, clocks that jump. What is expected of each is in docs/bad-days.md.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { createConnection, createServer, type Server, type Socket } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { listenUnix } from "../src/linux/unix-socket.js";
import type { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { heldBy } from "./process-state.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

const GUEST = 3;
const BYSTANDER = 4;

interface Day {
  readonly rig: ServeRig;
  readonly guest: VirtualMachine;
  readonly bystander: VirtualMachine;
}

const NOISY = 5;

/** More log than a pipe or a socket holds: sessions of a third VM, each of which says how it came and went. */
function makeNoise({ rig }: Day): void {
  for (let session = 0; session < 200; session++) rig.off(rig.boot(NOISY));
}

/** A program with two VMs, both booted; whatever the test opens is closed behind it. */
async function day(
  t: TestContext,
  options: readonly string[] = [],
  surroundings: Partial<Pick<ServeRig, "prefix" | "logsTo" | "vmSettings" | "environment">> = {},
): Promise<Day> {
  const rig = Object.assign(new ServeRig(), surroundings);
  t.after(() => rig.close());
  await rig.start([GUEST, BYSTANDER, NOISY], ...options);
  return { rig, guest: rig.boot(GUEST), bystander: rig.boot(BYSTANDER) };
}

/** Both VMs move data: whatever happened, it is over for the one, and was nothing to the other. */
async function bothWork({ rig, guest, bystander }: Day): Promise<void> {
  await rig.exchange(bystander, BYSTANDER, 100_000);
  await rig.exchange(guest, GUEST, 100_000);
}

/** What the program holds while nothing happens: both VMs have worked, and what that took is closed. */
async function atRest(today: Day): Promise<number> {
  await bothWork(today);
  const { rig } = today;
  let held = heldBy(rig.pid).descriptors;
  await rig.until(async () => {
    const before = held;
    await new Promise((resolve) => setTimeout(resolve, 50));
    held = heldBy(rig.pid).descriptors;
    return held === before;
  }, "rest");
  return held;
}

/** Waits until the program holds no more descriptors than before. */
async function holdsAgain({ rig }: Day, descriptors: number): Promise<void> {
  const held = (): number => heldBy(rig.pid).descriptors;
  await rig.until(
    () => held() <= descriptors,
    () => `${descriptors} descriptors, not ${held()}`,
  );
}

async function listen(t: TestContext, path: string, onSocket: (socket: Socket) => void): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    onSocket(socket);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return server;
}

/** Host programs that connect, say `line`, and stay until `leave`. */
class Crowd {
  readonly #sockets: Socket[] = [];

  come(path: string, count: number, line: string): void {
    for (let index = 0; index < count; index++) {
      const socket = createConnection(path);
      socket.on("error", () => {});
      if (line !== "") socket.write(line);
      socket.resume();
      this.#sockets.push(socket);
    }
  }

  get refused(): number {
    return this.#sockets.filter(({ destroyed, readableEnded }) => destroyed || readableEnded).length;
  }

  leave(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

describe("a flood", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("of connections from a guest ends at its limit, and nothing of it is left", async (t) => {
    const today = await day(t, [], { vmSettings: ["max-connections=50"] });
    const { rig, guest } = today;
    const descriptors = await atRest(today);
    await listen(t, rig.path(`vm${GUEST}.vsock_7000`), () => {});
    const attempts = await Promise.allSettled(Array.from({ length: 500 }, () => guest.driver.connect(7000)));
    const open = attempts.flatMap((attempt) => (attempt.status === "fulfilled" ? [attempt.value] : []));
    assert.equal(open.length, 50);
    assert.equal(heldBy(rig.pid).descriptors, descriptors + 50);
    await rig.exchange(today.bystander, BYSTANDER, 100_000);
    for (const connection of open) connection.reset();
    await holdsAgain(today, descriptors);
    await bothWork(today);
    assert.equal(rig.log.filter(({ event }) => event === "connection-limit").length, 1);
  });

  it("of CONNECTs from host programs is turned away at the limit, and nothing of it is left", async (t) => {
    const today = await day(t, [], { vmSettings: ["max-connections=50"] });
    const { rig, guest } = today;
    const descriptors = await atRest(today);
    const listener = guest.driver.listen(7000, 1000);
    const [asking, silent] = [new Crowd(), new Crowd()];
    t.after(() => {
      for (const crowd of [asking, silent]) crowd.leave();
    });
    asking.come(rig.path(`vm${GUEST}.vsock`), 400, "CONNECT 7000\n");
    await rig.until(
      () => asking.refused === 350,
      () => `350 are turned away, not ${asking.refused}`,
    );
    assert.equal(heldBy(rig.pid).descriptors, descriptors + 50);
    silent.come(rig.path(`vm${GUEST}.vsock`), 200, "");
    await rig.until(
      () => silent.refused === 150,
      () => `150 are turned away, not ${silent.refused}`,
    );
    assert.equal(heldBy(rig.pid).descriptors, descriptors + 100);
    await rig.exchange(today.bystander, BYSTANDER, 100_000);
    for (const crowd of [asking, silent]) crowd.leave();
    await holdsAgain(today, descriptors);
    listener.close();
    await bothWork(today);
  });
});

describe("when descriptors run out", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("connections are refused, VMMs are not, and all is well again once there are some", async (t) => {
    const today = await day(t, [], { prefix: ["prlimit", "--nofile=400", "--"] });
    const { rig, guest } = today;
    const descriptors = await atRest(today);
    const listener = guest.driver.listen(7000, 1000);
    const crowd = new Crowd();
    t.after(() => crowd.leave());
    crowd.come(rig.path(`vm${GUEST}.vsock`), 600, "CONNECT 7000\n");
    await rig.until(
      () => crowd.refused > 100,
      () => `most are turned away, not ${crowd.refused}`,
    );
    await rig.logged("handshake-failed", GUEST);
    assert.ok(heldBy(rig.pid).descriptors < 400);
    // The bystander's VM is rebooted now: its session finds the descriptors that it needs.
    rig.off(today.bystander);
    const rebooted = rig.boot(BYSTANDER);
    await rig.logged("session-start", BYSTANDER, 2);
    crowd.leave();
    await holdsAgain(today, descriptors);
    listener.close();
    await bothWork({ ...today, bystander: rebooted });
  });
});

describe("a log", { timeout: SERVE_TIMEOUT_MS }, () => {
  for (const isolate of ["thread", "process"] as const) {
    describe(`of a program with --isolate ${isolate}`, () => {
      const options = ["--log-level=debug", `--isolate=${isolate}`];

      it("on a full disk is lost, and nothing else", async (t) => {
        const full = openSync("/dev/full", constants.O_WRONLY);
        t.after(() => closeSync(full));
        const today = await day(t, options, { logsTo: full });
        await bothWork(today);
        assert.deepEqual(await today.rig.stop(), [0, null]);
      });

      it("into a pipe that nobody reads holds nobody up, nor the end", async (t) => {
        const directory = new ServeRig();
        t.after(() => directory.close());
        const fifo = directory.path("log");
        execFileSync("mkfifo", [fifo]);
        // Held open for reading, so that writing does not fail, and never read.
        const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
        const writer = openSync(fifo, constants.O_WRONLY);
        t.after(() => [reader, writer].forEach(closeSync));
        const today = await day(t, options, { logsTo: writer });
        makeNoise(today);
        await bothWork(today);
        assert.deepEqual(await today.rig.stop(), [0, null]);
      });

      it("into a socket that nobody reads holds nobody up, nor the end", async (t) => {
        const today = await day(t, options, { logsTo: "unread" });
        makeNoise(today);
        await bothWork(today);
        assert.deepEqual(await today.rig.stop(), [0, null]);
      });
    });
  }

  it("whose reader has left is lost, and nothing else", async (t) => {
    const directory = new ServeRig();
    t.after(() => directory.close());
    const fifo = directory.path("log");
    execFileSync("mkfifo", [fifo]);
    const reader = openSync(fifo, constants.O_RDONLY | constants.O_NONBLOCK);
    const writer = openSync(fifo, constants.O_WRONLY);
    const today = await day(t, ["--log-level=debug"], { logsTo: writer });
    closeSync(reader);
    closeSync(writer);
    await bothWork(today);
    assert.deepEqual(await today.rig.stop(), [0, null]);
  });
});

describe("a listener on the host", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("that never accepts has connections time out, and one that never reads holds up its own only", async (t) => {
    const today = await day(t, [], { vmSettings: ["connect-timeout-ms=300"] });
    const { rig, guest } = today;
    const descriptors = await atRest(today);
    // A backlog that holds two, and a program that is stopped before it accepts any.
    const stuck = listenUnix(rig.path(`vm${GUEST}.vsock_7000`), { backlog: 1 });
    t.after(() => closeSync(stuck));
    const attempts = await Promise.allSettled(Array.from({ length: 10 }, () => guest.driver.connect(7000)));
    assert.ok(attempts.filter(({ status }) => status === "rejected").length >= 8);
    await rig.logged("connection-refused", GUEST);
    await listen(t, rig.path(`vm${GUEST}.vsock_7001`), () => {});
    const unread = await guest.driver.connect(7001);
    unread.write(new Uint8Array(4_000_000)).catch(() => {});
    await bothWork(today);
    unread.reset();
    for (const attempt of attempts) if (attempt.status === "fulfilled") attempt.value.reset();
    // What the program that does not read was sent stays for it, until it leaves.
    await holdsAgain(today, descriptors + 1 + 2);
    await bothWork(today);
  });
});

describe("memory", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("that cannot be mapped is refused to its VMM, and others go on", async (t) => {
    const today = await day(t);
    const { rig } = today;
    await bothWork(today);
    rig.off(today.guest);
    await rig.logged("session-end", GUEST);
    // Room for what the program does besides, and not for a guest's memory of another size than the last one's.
    limitAddressSpace(rig.pid, 1024 * heldBy(rig.pid).addressSpaceKilobytes + 96 * 2 ** 20);
    const large = { slots: [{ gpa: 0, bytes: 512 * 2 ** 20 }] };
    assert.throws(() => rig.boot(GUEST, large));
    const refused = await rig.logged("message-refused", GUEST);
    assert.match(refused.message, /ENOMEM|memory/);
    await rig.exchange(today.bystander, BYSTANDER, 100_000);
    limitAddressSpace(rig.pid, "unlimited");
    await bothWork({ ...today, guest: rig.boot(GUEST, large) });
  });
});

function limitAddressSpace(pid: number, bytes: number | "unlimited"): void {
  execFileSync("prlimit", [`--pid=${pid}`, `--as=${bytes}:`]);
}

describe("a clock that jumps", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("changes no timeout: they are on the monotonic clock", async (t) => {
    // Each look at the time of day finds it right, an hour ahead, or two hours behind, in turn.
    const jumping = `const real = Date.now, hours = [0, 1, -2]; let looks = 0;
      Date.now = () => real() + 3_600_000 * hours[looks++ % hours.length];`;
    const module = `data:text/javascript,${encodeURIComponent(jumping)}`;
    const today = await day(t, ["--log-level=debug"], {
      vmSettings: ["connect-timeout-ms=500"],
      environment: { NODE_OPTIONS: `--import="${module}"` },
    });
    const { rig } = today;
    await bothWork(today);
    const times = rig.log.map(({ time }) => Date.parse(String(time)));
    assert.ok(
      times.some((time, at) => at > 0 && time < times[at - 1] - 3_000_000),
      "the clock did not jump",
    );
    // That VM has no guest.
    const startMs = performance.now();
    const socket = createConnection(rig.path(`vm${NOISY}.vsock`), () => socket.write("CONNECT 7000\n"));
    await new Promise((resolve) => socket.on("close", resolve));
    const { message } = await rig.logged("host-connect-failed", NOISY);
    assert.match(message, /the guest did not answer within 500 ms$/);
    assert.ok(performance.now() - startMs >= 490);
    await bothWork(today);
  });
});
