/** Running `bit33 serve` as an operator does: metrics, the control socket, one process a VM. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, statSync, writeFileSync } from "node:fs";
import { createConnection } from "node:net";
import { describe, it, type TestContext } from "node:test";
import { assertSame, noise } from "./device/rig.js";
import { HostMessages } from "./host-messages.js";
import { run, SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

async function started(t: TestContext, cids: readonly number[], ...options: string[]): Promise<ServeRig> {
  const rig = new ServeRig();
  t.after(() => rig.close());
  const withPaths = options.map((option) => (option === "CONTROL" ? rig.path("control") : option));
  await rig.start(cids, ...withPaths);
  return rig;
}

/** The samples of a page by name and labels. */
async function samples(url: string): Promise<Map<string, number>> {
  const response = await fetch(url);
  assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
  const lines = (await response.text()).split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(" ")), Number(line.slice(line.lastIndexOf(" ")))]),
  );
}

function processExists(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe("bit33 serve --connect-timeout-ms", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("closes a host program's connection that no guest answers for so long", async (t) => {
    const rig = await started(t, [], "--control", "CONTROL");
    const options = ["--guest-cid=3", `--socket=${rig.path("s")}`, `--uds-path=${rig.path("u")}`];
    assert.equal((await rig.ctl("add", ...options, "--connect-timeout-ms=40")).status, 0);
    const socket = createConnection(rig.path("u"), () => socket.write("CONNECT 1\n"));
    await new Promise((resolve) => socket.on("close", resolve));
    const { message } = await rig.logged("host-connect-failed", 3);
    assert.match(message, /the guest did not answer within 40 ms$/);
  });
});

describe("bit33 serve --metrics", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("counts what a guest moves, by VM and direction", async (t) => {
    const rig = await started(t, [3, 4], "--metrics", "127.0.0.1:0");
    const { url } = await rig.logged("metrics-served");
    const machine = rig.boot(3);
    await rig.exchange(machine, 3, 300_000);
    const page = await samples(String(url));
    assert.equal(page.get('bit33_bytes_total{vm="3",direction="from_guest"}'), 300_000);
    assert.equal(page.get('bit33_bytes_total{vm="3",direction="to_guest"}'), 300_000);
    assert.equal(page.get('bit33_connections_opened_total{vm="3",direction="from_guest"}'), 1);
    assert.equal(page.get('bit33_sessions_total{vm="3"}'), 1);
    assert.equal(page.get('bit33_translation_mode{vm="3",mode="off"}'), 1);
    assert.equal(page.get('bit33_translation_mode{vm="4",mode="none"}'), 1);
    assert.equal(page.get('bit33_bytes_total{vm="4",direction="from_guest"}'), 0);
    const some = ['kicks_total{vm="3",queue="tx"}', 'notifications_total{vm="3",queue="rx"}'];
    for (const name of some) assert.ok((page.get(`bit33_${name}`) ?? 0) > 0, name);
    for (const direction of ["from_guest", "to_guest"]) {
      const packets = page.get(`bit33_packets_total{vm="3",direction="${direction}"}`);
      assert.ok((packets ?? 0) > 0);
      assert.equal(page.get(`bit33_batch_packets_sum{vm="3",direction="${direction}"}`), packets);
    }
  });

  it("counts connections that nobody takes", async (t) => {
    const rig = await started(t, [3], "--metrics", "127.0.0.1:0");
    const { url } = await rig.logged("metrics-served");
    const machine = rig.boot(3);
    await assert.rejects(machine.driver.connect(999));
    const page = await samples(String(url));
    assert.equal(page.get('bit33_connections_refused_total{vm="3",reason="host"}'), 1);
    assert.equal(page.get('bit33_connections{vm="3"}'), 0);
  });

  it("counts what goes through the IOTLB of a guest behind a vIOMMU", async (t) => {
    const rig = await started(t, [3, 4], "--metrics", "127.0.0.1:0");
    const { url } = await rig.logged("metrics-served");
    await rig.exchange(rig.boot(3, { kind: "viommu" }), 3, 300_000);
    await rig.exchange(rig.boot(4), 4, 1000);
    const page = await samples(String(url));
    assert.equal(page.get('bit33_translation_mode{vm="3",mode="on"}'), 1);
    for (const what of ["hits", "misses", "updates", "invalidations"]) {
      const name = `bit33_iotlb_${what}_total`;
      assert.ok((page.get(`${name}{vm="3"}`) ?? 0) > 0, name);
      assert.equal(page.get(`${name}{vm="4"}`), 0, name);
    }
  });

  it("counts resets by who cut the connection short, and waits for a guest's credit", async (t) => {
    const rig = await started(t, [3], "--metrics", "127.0.0.1:0");
    const { url } = await rig.logged("metrics-served");
    const { driver } = rig.boot(3);
    const listener = driver.listen(80);
    const count = async (name: string) => (await samples(String(url))).get(`bit33_${name}`);
    const untilCounted = (name: string, expected: number) =>
      rig.until(async () => (await count(name)) === expected, `${name} ${expected}`);
    const joined = async () => {
      const host = createConnection(rig.path("vm3.vsock"), () => host.write("CONNECT 80\n"));
      host.on("error", () => {});
      const guest = await listener.accept();
      await once(host, "data");
      return { host, guest };
    };

    const stalled = await joined();
    assert.equal(await count('credit_stalls_total{vm="3"}'), 0);
    // The guest reads nothing, and its buffer is smaller.
    stalled.host.write(noise(1_000_000));
    await untilCounted('credit_stalls_total{vm="3"}', 1);
    assert.equal(await count('resets_total{vm="3",reason="guest"}'), 0);
    stalled.guest.reset();
    await untilCounted('resets_total{vm="3",reason="guest"}', 1);

    const unread = await joined();
    unread.host.pause();
    // More than node reads ahead, so that some is left in the socket.
    const cut = assert.rejects(unread.guest.write(noise(1_000_000)));
    await rig.until(
      async () => ((await count('bytes_total{vm="3",direction="from_guest"}')) ?? 0) > 200_000,
      "the bytes",
    );
    assert.equal(await count('resets_total{vm="3",reason="host"}'), 0);
    unread.host.destroy();
    await cut;
    await untilCounted('resets_total{vm="3",reason="host"}', 1);
    assert.equal(await count('resets_total{vm="3",reason="guest"}'), 1);
  });

  it("answers nothing but GET of /metrics", async (t) => {
    const rig = await started(t, [3], "--metrics", "127.0.0.1:0");
    const url = String((await rig.logged("metrics-served")).url);
    assert.equal((await fetch(url.replace("/metrics", "/other"))).status, 404);
    assert.equal((await fetch(url, { method: "POST", body: "x" })).status, 405);
    assert.equal((await fetch(url, { method: "HEAD" })).status, 200);
  });

  it("ends with status 2 and one line when the address is taken, and leaves no socket behind", async (t) => {
    const rig = await started(t, [3], "--metrics", "127.0.0.1:0");
    const { port } = new URL(String((await rig.logged("metrics-served")).url));
    const before = readdirSync(rig.directory).sort();
    const { status, complaint } = await run(
      ...["serve", "--vm", rig.vmOption(4), "--metrics", `127.0.0.1:${port}`],
    );
    assert.equal(status, 2);
    assert.match(complaint, /^bit33: --metrics: cannot serve metrics on 127\.0\.0\.1:\d+: .*\n$/);
    assert.deepEqual(readdirSync(rig.directory).sort(), before);
  });
});

describe("bit33 ctl", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("adds and removes VMs while another one works", async (t) => {
    const rig = await started(t, [3], "--control", "CONTROL");
    const machine = rig.boot(3);
    await rig.exchange(machine, 3, 10_000);
    const four = ["--guest-cid=4", `--socket=${rig.path("vm4.sock")}`, `--uds-path=${rig.path("vm4.vsock")}`];
    const added = await rig.ctl("add", ...four);
    assert.deepEqual([added.status, added.complaint], [0, ""]);
    assert.match(added.output, /^added vm=4 /);
    await rig.logged("listening", 4);
    await rig.exchange(rig.boot(4), 4, 10_000);
    const list = JSON.parse((await rig.ctl("list", "--json")).output);
    assert.deepEqual(
      list.vms.map(({ cid }: { cid: number }) => cid),
      [3, 4],
    );
    assert.equal((await rig.ctl("remove", "--guest-cid=4")).status, 0);
    await rig.logged("device-stopped", 4);
    assert.ok(!readdirSync(rig.directory).some((name) => name.startsWith("vm4.vsock")));
    // The session of the one that stayed is the same.
    await rig.exchange(machine, 3, 10_000);
    assert.equal(rig.log.filter(({ event, vm }) => event === "session-start" && vm === 3).length, 1);
    assert.deepEqual(await rig.stop(), [0, null]);
    assert.ok(!readdirSync(rig.directory).some((name) => name === "control"));
  });

  it("can begin with no VM at all, and goes on after the last one left", async (t) => {
    const rig = await started(t, [], "--control", "CONTROL");
    await rig.logged("control-served");
    assert.equal((await rig.ctl("list")).output, "no VM is served\n");
    const three = [
      "--guest-cid=3",
      `--socket=${rig.path("vm3.sock")}`,
      `--uds-path=${rig.path("vm3.vsock")}`,
    ];
    for (let round = 0; round < 3; round++) {
      assert.equal((await rig.ctl("add", ...three)).status, 0);
      assert.equal((await rig.ctl("remove", "--guest-cid=3")).status, 0);
    }
    assert.deepEqual(await rig.stop("SIGINT"), [0, null]);
  });

  it("tells what each VM does", async (t) => {
    const rig = await started(t, [3], "--control", "CONTROL");
    await rig.exchange(rig.boot(3), 3, 5000);
    const { reports } = JSON.parse((await rig.ctl("stats", "--guest-cid=3", "--json")).output);
    assert.equal(reports[0].figures.vsock.fromGuestBytes, 5000);
    assert.match((await rig.ctl("stats")).output, /^vm=3 mode=off sessions=1 .* from-guest=5000B\/\d+ /);
  });

  it("says what is wrong with a VM, and where, and changes nothing", async (t) => {
    const rig = await started(t, [3], "--control", "CONTROL");
    await rig.logged("control-served");
    const refused = async (options: string[], line: RegExp) => {
      const { status, output, complaint } = await rig.ctl(...options);
      assert.deepEqual([status, output], [2, ""]);
      assert.match(complaint, line);
    };
    const paths = [`--socket=${rig.path("x.sock")}`, `--uds-path=${rig.path("x.vsock")}`];
    await refused(
      ["add", "--guest-cid=3", ...paths],
      /^bit33: add \(guest-cid\): CID 3 is given twice, first by the VM/,
    );
    await refused(["add", "--guest-cid=2", ...paths], /^bit33: add \(guest-cid\): CID 2 is the host's own/);
    await refused(["add", "--guest-cid=4"], /^bit33: add: uds-path is missing/);
    const taken = [`--socket=${rig.path("x.sock")}`, `--uds-path=${rig.path("vm3.vsock")}`];
    await refused(
      ["add", "--guest-cid=4", ...taken],
      /^bit33: add \(uds-path\): .* is given twice, first by the VM with CID 3/,
    );
    await refused(
      ["add", "--guest-cid=4", "--queue-size=100", ...paths],
      /^bit33: add \(queue-size\): .* give 64 or 128\n$/,
    );
    writeFileSync(rig.path("x.sock"), "");
    await refused(["add", "--guest-cid=4", ...paths], /x\.sock: exists and is not a socket/);
    await refused(["remove", "--guest-cid=9"], /^bit33: no VM with CID 9 is served; there are 3\n$/);
    assert.match((await rig.ctl("list")).output, /^vm=3 [^\n]*\n$/);
  });

  it("reaches only a socket that is served, and its owner alone may connect", async (t) => {
    const rig = await started(t, [3], "--control", "CONTROL");
    await rig.logged("control-served");
    assert.equal(statSync(rig.path("control")).mode & 0o777, 0o600);
    const { status, complaint } = await run("ctl", "list", "--control", rig.path("nobody"));
    assert.equal(status, 2);
    assert.match(
      complaint,
      /^bit33: .*nobody: cannot reach bit33 serve there .*; is it running with --control\?\n$/,
    );
  });

  it("is not stopped by clients that send nonsense, too much, or leave at once", async (t) => {
    const rig = await started(t, [3], "--control", "CONTROL");
    await rig.logged("control-served");
    const talk = (text: string): Promise<string> =>
      new Promise((resolve) => {
        let answer = "";
        const socket = createConnection(rig.path("control"), () => socket.write(text));
        socket.on("data", (more) => {
          answer += more;
          socket.destroy();
        });
        socket.on("error", () => {});
        socket.on("close", () => resolve(answer));
      });
    assert.match(await talk("nonsense\n"), /"code":"request-malformed"/);
    assert.match(await talk("x".repeat(200_000)), /a request has at most 65536 bytes/);
    createConnection(rig.path("control"), function (this: { destroy(): void }) {
      this.destroy();
    });
    assert.equal((await rig.ctl("list")).status, 0);
  });

  it("is refused with an inherited descriptor, and without a path", async () => {
    const control = await run("serve", "--uds-path=/tmp/x", "--fd=0", "--control=/tmp/c");
    assert.equal(control.status, 2);
    assert.match((await run("ctl", "list")).complaint, /^bit33: --control: is missing/);
    assert.match((await run("ctl", "lsit")).complaint, /did you mean list\?/);
  });
});

describe("bit33 serve --isolate process", { timeout: SERVE_TIMEOUT_MS }, () => {
  const options = ["--isolate", "process", "--control", "CONTROL", "--metrics", "127.0.0.1:0"];

  async function pidsOf(rig: ServeRig): Promise<Map<number, number>> {
    const { reports } = JSON.parse((await rig.ctl("stats", "--json")).output);
    return new Map(
      reports.map((report: { cid: number; process?: { pid: number } }) => [report.cid, report.process?.pid]),
    );
  }

  it("gives each VM a process of its own, whose records and metrics are passed on", async (t) => {
    const rig = await started(t, [3, 4], ...options);
    await rig.exchange(rig.boot(3), 3, 50_000);
    await rig.logged("session-start", 3);
    const pids = await pidsOf(rig);
    assert.equal(new Set([rig.pid, ...pids.values()]).size, 3);
    const page = await samples(String((await rig.logged("metrics-served")).url));
    assert.equal(page.get('bit33_bytes_total{vm="3",direction="from_guest"}'), 50_000);
    assert.ok((page.get('bit33_device_resident_memory_bytes{vm="4"}') ?? 0) > 0);
  });

  it("serves seqpacket sockets both ways, whole messages each", async (t) => {
    const rig = await started(t, [3], ...options);
    const machine = rig.boot(3);
    // The driver runs once it has moved something.
    await rig.exchange(machine, 3, 1000);
    const { driver } = machine;
    const udsPath = rig.path("vm3.vsock");
    const guestListener = driver.listenSeqpacket(7);
    const toGuest = await HostMessages.connect(udsPath, 7);
    const atGuest = await guestListener.accept();
    const hostListener = HostMessages.listen(udsPath, 8);
    const fromGuest = await driver.connectSeqpacket(8);
    const atHost = await hostListener.accept();
    for (const [guest, host] of [
      [atGuest, toGuest],
      [fromGuest, atHost],
    ] as const) {
      for (const message of [noise(10), noise(100_000)]) {
        await host.send(message);
        assertSame((await guest.readMessage())?.bytes ?? assert.fail(), message, "what the guest got");
        await guest.write(message);
        assertSame(await host.receive(), message, "what the host got");
      }
      host.close();
      await guest.close();
    }
    hostListener.close();
  });

  it("goes on with the others when one dies, says so, and starts it again", async (t) => {
    const rig = await started(t, [3, 4], ...options);
    const [three, four] = [rig.boot(3), rig.boot(4)];
    await rig.exchange(three, 3, 1000);
    await rig.exchange(four, 4, 1000);
    process.kill((await pidsOf(rig)).get(3) ?? 0, "SIGKILL");
    const died = await rig.logged("process-died", 3);
    assert.match(died.message, /it was ended by SIGKILL; it is started again in 1000 ms$/);
    await rig.exchange(four, 4, 1000);
    assert.equal(rig.log.filter(({ event, vm }) => event === "session-start" && vm === 4).length, 1);
    rig.off(three);
    // Who comes before the new process waits in the backlog of the socket that stayed.
    const again = rig.boot(3);
    await rig.exchange(again, 3, 1000);
    const page = await samples(String((await rig.logged("metrics-served")).url));
    assert.equal(page.get('bit33_device_restarts_total{vm="3"}'), 1);
    assert.equal(page.get('bit33_device_restarts_total{vm="4"}'), 0);
  });

  it("ends on SIGTERM with status 0, all of its processes and sockets with it", async (t) => {
    const rig = await started(t, [3, 4], ...options);
    const pids = [...(await pidsOf(rig)).values()];
    assert.deepEqual(await rig.stop(), [0, null]);
    assert.deepEqual(readdirSync(rig.directory), []);
    assert.ok(!pids.some(processExists));
    assert.ok(!rig.log.some(({ event }) => event === "process-died"));
  });

  it("leaves no process behind when the main one is killed", async (t) => {
    const rig = await started(t, [3], ...options);
    const pids = [...(await pidsOf(rig)).values()];
    await rig.stop("SIGKILL");
    await rig.until(() => !pids.some(processExists), "the end of the VM's process");
  });

  it("removes the process with the VM", async (t) => {
    const rig = await started(t, [3, 4], ...options);
    const pid = (await pidsOf(rig)).get(4) ?? 0;
    assert.equal((await rig.ctl("remove", "--guest-cid=4")).status, 0);
    assert.ok(!processExists(pid));
    assert.match((await rig.ctl("list")).output, /^vm=3 [^\n]*\n$/);
  });
});
