/** `bit33 serve --forward PORT=exec:COMMAND`: a process for each connection, and what becomes of it. */
import assert from "node:assert/strict";
import { chmodSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { describe, it, type TestContext } from "node:test";
import type { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { assertSame, noise } from "./device/rig.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

/** Runs, or is a zombie that nobody has waited for. */
function exists(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

interface Served {
  readonly rig: ServeRig;
  readonly machine: VirtualMachine;
}

/** A VM whose port N is the Nth of the commands. */
async function served(t: TestContext, commands: readonly string[], ...options: string[]): Promise<Served> {
  const rig = new ServeRig();
  t.after(() => rig.close());
  chmodSync(rig.directory, 0o755);
  writeFileSync(rig.path("secret"), "of the host");
  const sockets = ["--socket", rig.path("vm3.sock"), "--uds-path", rig.path("vm3.vsock")];
  const forwards = commands.map(
    (command, port) => `--forward=${port}=exec:${command.replace("SECRET", rig.path("secret"))}`,
  );
  rig.startWith([...sockets, ...forwards, ...options]);
  await rig.logged("listening", 3);
  return { rig, machine: rig.boot(3) };
}

async function output(machine: VirtualMachine, port: number): Promise<string> {
  const guest = await machine.driver.connect(port);
  const text = (await guest.readToEnd()).toString();
  await guest.close();
  return text;
}

/** The numbers on the first line that a command writes. */
async function firstNumbers(
  guest: Awaited<ReturnType<VirtualMachine["driver"]["connect"]>>,
): Promise<number[]> {
  let text = "";
  while (!text.includes("\n")) text += Buffer.from((await guest.read()) ?? assert.fail("it ended"));
  return text.split(/\s+/).filter(Boolean).map(Number);
}

/** `$!` is a grandchild: the shell goes on as its parent. */
const SLEEPERS = "sleep 1000 & echo $$ $!; wait";

for (const isolate of ["thread", "process"]) {
  describe(`a command behind a port, with --isolate ${isolate}`, { timeout: SERVE_TIMEOUT_MS }, () => {
    it("has the connection as standard input and output, and is waited for", async (t) => {
      const { rig, machine } = await served(t, ["cat", "echo $$; cat"], "--isolate", isolate);
      const guest = await machine.driver.connect(0);
      const data = noise(1_000_000);
      const sent = guest.write(data).then(() => guest.shutdown(2));
      assertSame(await guest.readToEnd(), data, "what came back");
      await sent;
      await guest.close();
      const other = await machine.driver.connect(1);
      const [pid] = await firstNumbers(other);
      assert.ok(exists(pid));
      other.shutdown(2);
      assert.equal((await other.readToEnd()).length, 0);
      await rig.until(() => !exists(pid), "the end of the command");
      await other.close();
      assert.ok(!rig.log.some(({ event }) => event === "command-ended"));
    });

    it("is told who has connected, and may open what this program may", async (t) => {
      const told = "echo $BIT33_PEER_CID $BIT33_PEER_PORT $BIT33_PORT; cat SECRET";
      const { machine } = await served(t, [told], "--isolate", isolate);
      const guest = await machine.driver.connect(0);
      assert.equal((await guest.readToEnd()).toString(), `3 ${guest.localPort} 0\nof the host`);
      await guest.close();
    });

    it("is killed with all of its processes when the guest resets the connection", async (t) => {
      const stubborn = `trap "" TERM; ${SLEEPERS}`;
      const stubbornChild = `sh -c 'trap "" TERM; sleep 1000; :' & echo $$ $!; wait`;
      const { rig, machine } = await served(t, [SLEEPERS, stubborn, stubbornChild], "--isolate", isolate);
      for (const port of [0, 1, 2]) {
        const guest = await machine.driver.connect(port);
        const pids = await firstNumbers(guest);
        assert.equal(pids.filter(exists).length, 2);
        guest.reset();
        await rig.until(() => !pids.some(exists), `the end of ${pids}`);
      }
    });

    it("has its complaints logged, a line each, and its status", async (t) => {
      const { rig, machine } = await served(
        t,
        ["printf 'no\\nway\\033[1m\\n' >&2; exit 3"],
        "--isolate",
        isolate,
      );
      assert.equal(await output(machine, 0), "");
      const said = [await rig.logged("command-said", 3, 1), await rig.logged("command-said", 3, 2)];
      assert.match(said[0].message, /: no$/);
      assert.match(said[1].message, /: way/);
      assert.match((await rig.logged("command-ended", 3)).message, /: ended with status 3$/);
    });

    it("runs no more often at a time than 64 times", async (t) => {
      const { rig, machine } = await served(t, ["echo $$; cat"], "--isolate", isolate);
      const guests = await Promise.all(Array.from({ length: 64 }, () => machine.driver.connect(0)));
      const pids = (await Promise.all(guests.map(firstNumbers))).flat();
      assert.equal(new Set(pids).size, 64);
      await assert.rejects(machine.driver.connect(0), { code: "ECONNRESET" });
      const { message } = await rig.logged("connection-refused", 3);
      assert.match(message, /host port 0: as many of its commands run as may$/);
      guests[0].reset();
      await rig.until(async () => {
        const again = await machine.driver.connect(0).catch(() => undefined);
        again?.reset();
        return again !== undefined;
      }, "room for another");
    });

    it("ends with the program", async (t) => {
      const { rig, machine } = await served(t, [SLEEPERS], "--isolate", isolate);
      const pids = await firstNumbers(await machine.driver.connect(0));
      assert.deepEqual(await rig.stop(), [0, null]);
      // The shell has been waited for; what it had started is for init to wait for.
      assert.ok(!exists(pids[0]));
      await rig.until(() => !pids.some(exists), `the end of ${pids}`);
    });

    if (process.getuid?.() === 0)
      it("runs as the user that --user names", async (t) => {
        const { machine } = await served(t, ["id -u"], "--isolate", isolate, "--user", "65534:65534");
        assert.equal(await output(machine, 0), "65534\n");
      });
  });
}

describe("a command behind a port", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("ends with its VM's process, and works again with the next one", async (t) => {
    const { rig, machine } = await served(t, [SLEEPERS], "--isolate", "process");
    const pids = await firstNumbers(await machine.driver.connect(0));
    const children = readFileSync(`/proc/${rig.pid}/task/${rig.pid}/children`, "utf8").trim().split(" ");
    const device = children.map(Number).find((pid) => pid !== pids[0]);
    assert.ok(device !== undefined);
    process.kill(device, "SIGKILL");
    await rig.until(() => !pids.some(exists), "the end of the commands");
    rig.off(machine);
    const again = rig.boot(3);
    const guest = await again.driver.connect(0);
    assert.equal((await firstNumbers(guest)).length, 2);
    guest.reset();
  });

  it("is not for seqpacket sockets", async (t) => {
    const { machine } = await served(t, ["cat"]);
    await assert.rejects(machine.driver.connectSeqpacket(0), { code: "ECONNRESET" });
  });
});
