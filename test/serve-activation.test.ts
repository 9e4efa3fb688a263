/** Sockets made by somebody else and passed on as systemd does it: descriptors from 3 on, LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES. */
import assert from "node:assert/strict";
import { closeSync, existsSync } from "node:fs";
import { createConnection } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { assignSockets, takePassedSockets } from "../src/cli/serve/activation.js";
import { vmConfig } from "../src/device/config/vm-config.js";
import { listenTcp, tcpPort } from "../src/linux/tcp-socket.js";
import { listenUnix, SOCK_SEQPACKET, setBlocking, socketPair } from "../src/linux/unix-socket.js";
import { exchange, noise } from "./device/rig.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

type Made = (rig: ServeRig) => readonly (readonly [name: string, fd: number])[];

/** Blocking, as systemd's are unless a unit asks for something else. */
function unix(path: string, type?: number): number {
  const fd = type === undefined ? listenUnix(path) : listenUnix(path, { type });
  setBlocking(fd);
  return fd;
}

function tcp(): number {
  const fd = listenTcp({ address: "127.0.0.1", port: 0 });
  setBlocking(fd);
  return fd;
}

/** Starts `bit33 serve` for VM 3 with the sockets that `made` makes. */
function activated(t: TestContext, made: Made, ...options: string[]): ServeRig {
  const rig = new ServeRig();
  t.after(() => rig.close());
  const sockets = made(rig);
  t.after(() => sockets.forEach(([, fd]) => void closeSync(fd)));
  rig.startPassing(sockets, ["--vm", rig.vmOption(3), ...options]);
  return rig;
}

describe("bit33 serve with sockets from the service manager", { timeout: SERVE_TIMEOUT_MS }, () => {
  for (const isolate of ["thread", "process"]) {
    it(`serves a VM on them with --isolate ${isolate}, and leaves their files alone`, async (t) => {
      let port = 0;
      const made: Made = (rig) => {
        const web = tcp();
        port = tcpPort(web);
        return [
          ["vm3-socket", unix(rig.path("vm3.sock"))],
          ["vm3-listen-7", web],
          ["vm3-uds-path", unix(rig.path("vm3.vsock"))],
          ["vm3-seqpacket", unix(rig.path("vm3.vsock_seqpacket"), SOCK_SEQPACKET)],
          ["vm3-listen-7", unix(rig.path("web"))],
        ];
      };
      const rig = activated(t, made, "--isolate", isolate);
      // Somebody may connect before anything runs: it waits in the backlog.
      const machine = rig.boot(3);
      await rig.logged("listening", 3);
      const { names } = await rig.logged("sockets-passed");
      assert.equal(names, "vm3-socket, vm3-listen-7, vm3-uds-path, vm3-seqpacket, vm3-listen-7");
      await rig.exchange(machine, 3, 10_000);
      const listener = machine.driver.listen(7);
      const served = [await rig.logged("listen-served", 3, 1), await rig.logged("listen-served", 3, 2)];
      assert.deepEqual(
        served.map(({ at }) => at),
        [`tcp:127.0.0.1:${port}`, `unix:${rig.path("web")}`],
      );
      for (const where of [{ host: "127.0.0.1", port }, { path: rig.path("web") }]) {
        const host = createConnection({ ...where, allowHalfOpen: true });
        await exchange(await listener.accept(), host, noise(50_000), noise(50_000));
      }
      const hybrid = createConnection(rig.path("vm3.vsock"), () => hybrid.write("CONNECT 7\n"));
      const guest = await listener.accept();
      guest.reset();
      hybrid.destroy();
      assert.deepEqual(await rig.stop(), [0, null]);
      for (const name of ["vm3.sock", "vm3.vsock", "vm3.vsock_seqpacket", "web"])
        assert.ok(existsSync(rig.path(name)), name);
    });
  }

  it("makes those that are not passed", async (t) => {
    const rig = activated(t, (made) => [["vm3-socket", unix(made.path("vm3.sock"))]]);
    await rig.logged("listening", 3);
    await rig.exchange(rig.boot(3), 3, 10_000);
    assert.deepEqual(await rig.stop(), [0, null]);
    assert.ok(existsSync(rig.path("vm3.sock")) && !existsSync(rig.path("vm3.vsock")));
  });

  const refused: [string, Made, RegExp][] = [
    [
      "a name that says nothing",
      (rig) => [["bit33.socket", unix(rig.path("x"))]],
      /LISTEN_FDNAMES: a socket is named "bit33\.socket", which says nothing here; set FileDescriptorName= to one of vmCID-socket, /,
    ],
    [
      "a path that is not the configured one",
      (rig) => [["vm3-socket", unix(rig.path("other"))]],
      /vm3-socket \(descriptor 3\): it is unix:.*other, and the configuration says ".*vm3\.sock"; make both the same/,
    ],
    [
      "a socket of the wrong type",
      (rig) => [["vm3-seqpacket", unix(rig.path("vm3.vsock_seqpacket"))]],
      /vm3-seqpacket \(descriptor 3\): it is of another type; use ListenSequentialPacket=/,
    ],
    [
      "a TCP socket for the VMM",
      () => [["vm3-socket", tcp()]],
      /it is tcp:127\.0\.0\.1:\d+, and the configuration says/,
    ],
    [
      "one that is connected",
      () => {
        const [first, second] = socketPair();
        closeSync(second);
        return [["vm3-listen-7", first]];
      },
      /it does not listen; a unit with Accept=no passes one that does/,
    ],
  ];
  for (const [what, made, line] of refused) {
    it(`refuses ${what}`, async (t) => {
      const rig = activated(t, made);
      assert.deepEqual(await rig.exited, [2, null]);
      assert.match(rig.log.map(({ message }) => message).join("\n"), line);
    });
  }
});

describe("the names of passed sockets", () => {
  const configs = [vmConfig({ guestCid: 3, socketPath: "/run/a", udsPath: "/run/b" })];
  const assign = (...names: string[]) =>
    assignSockets(
      names.map((name, index) => ({ fd: 3 + index, name })),
      configs,
    );

  it("are for this process only if LISTEN_PID says so, and are taken out of the environment", () => {
    const environment = { LISTEN_PID: "5", LISTEN_FDS: "2", LISTEN_FDNAMES: "a", PATH: "/bin" };
    assert.deepEqual(takePassedSockets(environment, 6), []);
    assert.deepEqual(takePassedSockets(environment, 5), [
      { fd: 3, name: "a" },
      { fd: 4, name: "unknown" },
    ]);
    assert.deepEqual(environment, { PATH: "/bin" });
    assert.throws(() => takePassedSockets({ LISTEN_PID: "5", LISTEN_FDS: "x" }, 5), {
      code: "value-malformed",
    });
  });

  it("that fit nothing are refused, with what would", () => {
    for (const [names, message] of [
      [["vm4-socket"], /"vm4-socket" is for a VM with CID 4, and there is none; there are 3$/],
      [["vm3-sockt"], /is named "vm3-sockt", which says nothing here; did you mean socket\?; set/],
      [["vm3-listen"], /which says nothing here; did you mean listen/],
      [["vm3-listen-4294967295"], /which says nothing here/],
      [["vm3-socket-1"], /which says nothing here/],
      [["unknown"], /is named "unknown"/],
      [["vm3-socket", "vm3-socket"], /"vm3-socket" is passed twice/],
    ] as const)
      assert.throws(() => assign(...names), { code: "socket-name-unknown", message });
  });
});
