/** `--forward`: the guest's connections to a port of the host, led to TCP addresses and Unix sockets that exist or do not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import type { VmConfig } from "../../src/device/config/vm-config.js";
import { libcCalls } from "../../src/linux/libc.js";
import { setupScratch } from "../../src/linux/scratch.js";
import { tryCreateTcpSocket } from "../../src/linux/tcp-socket.js";
import { acceptUnix } from "../../src/linux/unix-socket.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { assertWorks, exchange, HostListener, noise, Rig, SUITE_TIMEOUT_MS } from "./rig.js";

const TCP4 = 4001;
const TCP6 = 4002;
const UNIX = 4003;
const REFUSED = 4004;
const MISSING = 4005;

describe("a forwarded port", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let machine: VirtualMachine;
  let folder: string;
  const servers: Server[] = [];
  const targets = new Map<number, HostListener>();

  async function serve(
    port: number,
    where: { host: string; port: number } | { path: string },
  ): Promise<Server> {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true });
    server.listen(where);
    await once(server, "listening");
    servers.push(server);
    targets.set(port, new HostListener(server, (socket) => socket.on("error", () => {})));
    return server;
  }
  const portOf = (server: Server) => (server.address() as AddressInfo).port;

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "bit33-forward-"));
    const path = join(folder, "target");
    const [v4, v6] = [
      await serve(TCP4, { host: "127.0.0.1", port: 0 }),
      await serve(TCP6, { host: "::1", port: 0 }),
    ];
    await serve(UNIX, { path });
    const closed = await serve(REFUSED, { host: "127.0.0.1", port: 0 });
    const refusedPort = portOf(closed);
    closed.close();
    const forwards: VmConfig["forwards"] = [
      { hostPort: TCP4, target: { kind: "tcp", address: "127.0.0.1", port: portOf(v4) } },
      { hostPort: TCP6, target: { kind: "tcp", address: "::1", port: portOf(v6) } },
      { hostPort: UNIX, target: { kind: "unix", path } },
      { hostPort: REFUSED, target: { kind: "tcp", address: "127.0.0.1", port: refusedPort } },
      { hostPort: MISSING, target: { kind: "unix", path: `${path}.missing` } },
    ];
    rig = await Rig.start({ forwards, connectTimeoutMs: 500 });
    machine = rig.boot();
  });
  after(async () => {
    for (const server of servers) server.close();
    await rig.close();
    rmSync(folder, { recursive: true });
  });

  for (const [name, port] of [
    ["an IPv4 address", TCP4],
    ["an IPv6 address", TCP6],
    ["a Unix socket", UNIX],
  ] as const) {
    it(`leads to ${name}, with data both ways and half-close`, async () => {
      const guest = await machine.driver.connect(port);
      const host = await targets.get(port)?.accept();
      assert.ok(host !== undefined);
      await exchange(guest, host, noise(2_000_000), noise(2_000_000));
      await guest.close();
    });
  }

  it("leads many connections at once to the same target, each to its own", async () => {
    const target = targets.get(TCP4);
    assert.ok(target !== undefined);
    const guests = await Promise.all(Array.from({ length: 100 }, () => machine.driver.connect(TCP4)));
    const hosts = await Promise.all(guests.map(() => target.accept()));
    await Promise.all(guests.map((guest, index) => guest.write(Buffer.from(`guest ${index}`))));
    await Promise.all(guests.map((guest) => guest.shutdown(2)));
    const heard = await Promise.all(hosts.map(async (host) => (await host.toArray()).join("")));
    assert.deepEqual(heard.sort(), guests.map((_, index) => `guest ${index}`).sort());
    for (const host of hosts) host.end();
    await Promise.all(guests.map((guest) => guest.close()));
  });

  it("is refused to the guest when its target refuses or is not there, and the log says why", async () => {
    for (const [port, reason] of [
      [REFUSED, /its listener is gone/],
      [MISSING, /nothing listens there/],
    ] as const) {
      const before = rig.events("connection-refused").length;
      await assert.rejects(machine.driver.connect(port), { code: "ECONNRESET" });
      await rig.until(() => rig.events("connection-refused").length > before, "the log line");
      const record = rig.events("connection-refused").at(-1);
      assert.match(record?.message ?? "", new RegExp(`host port ${port}: .*${reason.source}`));
    }
  });

  it("leaves the other ports what they were", () => assertWorks(rig, machine));

  it("of a peer that resets is reset for the guest", async () => {
    const guest = await machine.driver.connect(TCP4);
    const host = await targets.get(TCP4)?.accept();
    host?.resetAndDestroy();
    const isLogged = () =>
      rig.events("connection-reset").some(({ message }) => /failed with ECONNRESET/.test(message));
    await rig.until(isLogged, "the log line");
    await guest.readToEnd().catch(() => {});
  });
});

describe("a forward to an address that does not answer at once", { timeout: SUITE_TIMEOUT_MS }, () => {
  let rig: Rig;
  let stuck: StuckListener;
  let machine: VirtualMachine;

  async function start(connectTimeoutMs: number): Promise<void> {
    stuck = await StuckListener.open();
    const target = { kind: "tcp", address: "127.0.0.1", port: stuck.port } as const;
    rig = await Rig.start({ forwards: [{ hostPort: TCP4, target }], connectTimeoutMs });
    machine = rig.boot();
  }
  afterEach(async () => {
    await rig.close();
    stuck.close();
  });

  it("holds nobody else up, and is given up after the connect timeout", async () => {
    await start(300);
    const refused = assert.rejects(machine.driver.connect(TCP4), { code: "ECONNRESET" });
    await assertWorks(rig, machine);
    await refused;
    await assertWorks(rig, machine);
    const [{ message }] = rig.events("connection-refused");
    assert.ok(message.endsWith(`: no answer from 127.0.0.1 port ${stuck.port} within 300 ms`), message);
  });

  it("is connected when it answers after all", async () => {
    // The host's kernel asks again after 1 s, and twice as long after that: nobody gives up before it is answered.
    await start(SUITE_TIMEOUT_MS);
    machine.driver.connectTimeoutMs = SUITE_TIMEOUT_MS;
    const connecting = machine.driver.connect(TCP4);
    stuck.acceptAll();
    await (await connecting).close();
  });
});

/** A TCP listener that nobody accepts from, and whose queue is full: what else asks gets no answer. */
class StuckListener {
  readonly #fillers: Socket[] = [];

  private constructor(
    readonly port: number,
    private readonly fd: number,
  ) {}

  static async open(): Promise<StuckListener> {
    const finder = createServer().listen(0, "127.0.0.1");
    await once(finder, "listening");
    const { port } = finder.address() as AddressInfo;
    finder.close();
    await once(finder, "close");
    const fd = tryCreateTcpSocket({ address: "127.0.0.1", port });
    const { data, address } = setupScratch;
    data.setUint16(0, 2, true);
    data.setUint16(2, port);
    data.setUint32(4, 0x7f000001);
    assert.equal(libcCalls.bind(fd, address, 16), 0);
    assert.equal(libcCalls.listen(fd, 0), 0);
    const listener = new StuckListener(port, fd);
    for (let index = 0; index < 3; index++) {
      const socket = connect(port, "127.0.0.1");
      socket.on("error", () => {});
      listener.#fillers.push(socket);
    }
    await once(listener.#fillers[0], "connect");
    return listener;
  }

  /** Makes room. */
  acceptAll(): void {
    for (const socket of this.#fillers) socket.destroy();
    const timer = setInterval(() => {
      for (let fd = acceptUnix(this.fd); fd >= 0; fd = acceptUnix(this.fd)) closeSync(fd);
    }, 20);
    timer.unref();
    this.#stop = () => clearInterval(timer);
  }

  #stop = () => {};

  close(): void {
    this.#stop();
    for (const socket of this.#fillers) socket.destroy();
    closeSync(this.fd);
  }
}
