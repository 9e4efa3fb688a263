/** `--listen`: sockets of the host that stand for ports of the guest, TCP and Unix. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createConnection, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { StartError } from "../../src/config/errors.js";
import type { Listen } from "../../src/device/config/forwards.js";
import { vmConfig } from "../../src/device/config/vm-config.js";
import { startDevice } from "../../src/device/device.js";
import { silentLogger } from "../../src/log/logger.js";
import type { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "../serve-rig.js";
import { assertWorks, exchange, noise, Rig, readToEnd, SUITE_TIMEOUT_MS } from "./rig.js";

const ECHO = 7;
const NOBODY = 9;
const V4 = { kind: "tcp", address: "127.0.0.1", port: 0 } as const;
const V6 = { kind: "tcp", address: "::1", port: 0 } as const;

/** What `tcp:127.0.0.1:80` or `unix:/path` is to node. */
function addressOf(at: string): { port: number; host: string } | { path: string } {
  if (at.startsWith("unix:")) return { path: at.slice("unix:".length) };
  const [, host, port] = /^tcp:\[?(.*?)\]?:(\d+)$/.exec(at) ?? [];
  return { host, port: Number(port) };
}

async function connectTo(at: string): Promise<Socket> {
  const socket = createConnection({ ...addressOf(at), allowHalfOpen: true });
  await once(socket, "connect");
  return socket;
}

describe("a socket that stands for a port of the guest", { timeout: SUITE_TIMEOUT_MS }, () => {
  const folder = mkdtempSync(join(tmpdir(), "bit33-listen-"));
  const path = join(folder, "echo=7");
  let rig: Rig;
  let machine: VirtualMachine;
  /** Where each listens, in the order of `listens`. */
  let places: string[];

  before(async () => {
    const listens: Listen[] = [
      { source: V4, guestPort: ECHO },
      { source: V6, guestPort: ECHO },
      { source: { kind: "unix", path }, guestPort: ECHO },
      { source: V4, guestPort: NOBODY },
    ];
    rig = await Rig.start({ listens, connectTimeoutMs: 500, maxConnections: 150 });
    places = rig.events("listen-served").map(({ fields }) => String(fields?.at));
    machine = rig.boot();
  });
  after(async () => {
    await rig.close();
    assert.ok(!existsSync(path));
    rmSync(folder, { recursive: true });
  });

  it("is logged with the port that it got", () => {
    assert.match(places[0], /^tcp:127\.0\.0\.1:[1-9]\d*$/);
    assert.match(places[1], /^tcp:\[::1\]:[1-9]\d*$/);
    assert.equal(places[2], `unix:${path}`);
  });

  for (const [index, name] of ["over IPv4", "over IPv6", "over a Unix socket"].entries()) {
    it(`moves data both ways ${name}, with half-close`, async () => {
      const listener = machine.driver.listen(ECHO);
      const host = await connectTo(places[index]);
      await exchange(await listener.accept(), host, noise(2_000_000), noise(2_000_000));
      listener.close();
    });
  }

  it("takes what a program sends before the guest has answered", async () => {
    const listener = machine.driver.listen(ECHO);
    const host = await connectTo(places[0]);
    host.end("early");
    const guest = await listener.accept();
    assert.equal((await guest.readToEnd()).toString(), "early");
    await guest.close();
    listener.close();
  });

  it("serves a hundred at once, each for itself", async () => {
    const listener = machine.driver.listen(ECHO);
    const hosts = await Promise.all(Array.from({ length: 100 }, () => connectTo(places[0])));
    for (const [index, host] of hosts.entries()) host.end(`host ${index}`);
    const heard = await Promise.all(
      hosts.map(async () => {
        const guest = await listener.accept();
        const text = (await guest.readToEnd()).toString();
        await guest.close();
        return text;
      }),
    );
    assert.deepEqual(heard.sort(), hosts.map((_, index) => `host ${index}`).sort());
    listener.close();
  });

  it("is closed where the guest does not take it, and the log says why", async () => {
    const logged = rig.events("host-connect-failed").length;
    const host = await connectTo(places[3]);
    assert.equal((await readToEnd(host)).length, 0);
    host.destroy();
    const reasons = () => rig.events("host-connect-failed").slice(logged);
    await rig.until(() => reasons().length > 0, "the log line");
    assert.deepEqual(
      reasons().map(({ message }) => message),
      [`guest port ${NOBODY}: the guest refused it: nothing listens on that port`],
    );
  });

  it("resets the guest's connection when the program resets its own", async () => {
    const listener = machine.driver.listen(ECHO);
    const host = await connectTo(places[0]);
    const guest = await listener.accept();
    // Once something has come through, the device knows that the guest has answered.
    await guest.write(Buffer.from("here"));
    await once(host, "data");
    host.resetAndDestroy();
    await guest.readToEnd().catch(() => {});
    await rig.until(
      () => rig.events("connection-reset").some(({ message }) => /ECONNRESET/.test(message)),
      "the log line",
    );
    listener.close();
  });

  it("counts against the limit of connections, and leaves what there is alone", async () => {
    const listener = machine.driver.listen(ECHO, 1000);
    const hosts: Socket[] = [];
    for (let count = 0; count < 200; count++) hosts.push(await connectTo(places[0]));
    const limit = /the guest has 150 connections, which is the limit$/;
    await rig.until(
      () => rig.events("host-connect-failed").some(({ message }) => limit.test(message)),
      "the log line",
    );
    for (const host of hosts) host.resetAndDestroy();
    listener.close();
    await assertWorks(rig, machine);
  });
});

describe("the start of a device with such sockets", () => {
  const folder = mkdtempSync(join(tmpdir(), "bit33-listen-"));
  after(() => rmSync(folder, { recursive: true }));
  const config = (...listens: Listen[]) =>
    vmConfig({ socketPath: join(folder, "vm"), udsPath: join(folder, "uds"), listens });

  it("is refused where somebody listens, and leaves nothing behind", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    const unix = { kind: "unix", path: join(folder, "echo") } as const;
    const taken = config(
      { source: unix, guestPort: 1 },
      { source: V4, guestPort: 1 },
      { source: { ...V4, port }, guestPort: 1 },
    );
    await assert.rejects(startDevice([taken], { log: silentLogger }), (error) => {
      assert.ok(error instanceof StartError);
      assert.equal(error.code, "bind-failed");
      assert.equal(error.line, `tcp:127.0.0.1:${port}: cannot listen there: bind failed with EADDRINUSE`);
      return true;
    });
    assert.ok(!existsSync(unix.path));
    server.close();
    writeFileSync(unix.path, "");
    const blocked = config({ source: unix, guestPort: 1 });
    await assert.rejects(startDevice([blocked], { log: silentLogger }), { code: "path-not-a-socket" });
  });
});

describe("bit33 serve --listen", { timeout: SERVE_TIMEOUT_MS }, () => {
  for (const isolate of ["thread", "process"]) {
    it(`reaches the guest with --isolate ${isolate}, also after ctl add`, async (t) => {
      const rig = new ServeRig();
      t.after(() => rig.close());
      await rig.start([], "--isolate", isolate, "--control", rig.path("control"));
      await rig.logged("control-served");
      const paths = [`--socket=${rig.path("vm3.sock")}`, `--uds-path=${rig.path("vm3.vsock")}`];
      const sockets = ["--listen=tcp:127.0.0.1:0=7", `--listen=unix:${rig.path("echo")}=7`];
      const added = await rig.ctl("add", "--guest-cid=3", ...paths, ...sockets);
      assert.deepEqual([added.status, added.complaint], [0, ""]);
      const machine = rig.boot(3);
      const listener = machine.driver.listen(7);
      for (const count of [1, 2]) {
        const { at } = await rig.logged("listen-served", 3, count);
        // A connection before the guest's driver runs is refused; the session comes first.
        await rig.exchange(machine, 3, 1000);
        const host = await connectTo(String(at));
        await exchange(await listener.accept(), host, noise(100_000), noise(100_000));
      }
      assert.deepEqual(await rig.stop(), [0, null]);
      assert.ok(!existsSync(rig.path("echo")));
    });
  }
});
