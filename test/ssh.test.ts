/** A real ssh and a real sshd over the device: `bit33 connect` as ProxyCommand, with and without handing the socket over, and `--listen`. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import type { GuestConnection } from "../src/guest/connection.js";
import { assertSame, noise } from "./device/rig.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";
import { findSshd, SshPair, whatSshLacks } from "./sshd.js";

const MAIN = fileURLToPath(new URL("../src/cli/main.js", import.meta.url));
const MEGABYTE = 1_000_000;

interface Outcome {
  readonly status: number | null;
  readonly output: Buffer;
  readonly complaint: string;
}

async function client(command: string, argv: readonly string[], input: Uint8Array): Promise<Outcome> {
  const child = spawn(command, argv);
  const output: Buffer[] = [];
  let complaint = "";
  child.stdout.on("data", (chunk: Buffer) => output.push(chunk));
  child.stderr.on("data", (chunk) => {
    complaint += chunk;
  });
  child.stdin.on("error", () => {});
  child.stdin.end(input);
  const [status] = await once(child, "close");
  return { status, output: Buffer.concat(output), complaint };
}

const lack = whatSshLacks();

describe("ssh to a guest", { timeout: SERVE_TIMEOUT_MS, skip: lack ?? false }, () => {
  const rig = new ServeRig();
  let ssh: SshPair;
  let port: string;
  /** What the guest's sshd wrote to its log. */
  let guestLog = "";

  /** The guest's sshd: it takes each connection to port 22, as inetd would. */
  async function serve(connection: GuestConnection): Promise<void> {
    const sshd = ssh.serve();
    sshd.stderr.on("data", (text) => {
      guestLog += text;
    });
    sshd.stdin.on("error", () => {});
    const reading = (async () => {
      for (let bytes = await connection.read(); bytes !== undefined; bytes = await connection.read())
        sshd.stdin.write(bytes.slice());
      sshd.stdin.end();
    })().catch(() => sshd.kill());
    for await (const chunk of sshd.stdout) await connection.write(chunk).catch(() => sshd.kill());
    connection.shutdown(2);
    await reading;
    await connection.close().catch(() => {});
  }

  before(async () => {
    ssh = new SshPair(rig.path("ssh"), findSshd() ?? assert.fail());
    await rig.start([], "--vm", `${rig.vmOption(3)},listen=tcp:127.0.0.1:0=22`);
    const { at } = await rig.logged("listen-served", 3);
    port = /\d+$/.exec(String(at))?.[0] ?? assert.fail();
    const listener = rig.boot(3).driver.listen(22);
    void (async () => {
      for (;;) void serve(await listener.accept());
    })().catch(() => {});
  });
  after(() => rig.close());

  const connect = `${process.execPath} ${MAIN} connect`;
  const ways: [string, () => string[]][] = [
    ["over ProxyCommand", () => [`ProxyCommand=${connect} ${rig.path("vm3.vsock")} 22`]],
    [
      "over ProxyCommand that hands the socket over",
      () => [`ProxyCommand=${connect} --pass-fd ${rig.path("vm3.vsock")} 22`, "ProxyUseFdpass=yes"],
    ],
    ["over a socket that listens", () => ["HostName=127.0.0.1", "HostKeyAlias=vm3", `Port=${port}`]],
  ];

  for (const [way, options] of ways) {
    it(`copies files both ways ${way}`, async () => {
      const [local, back] = [rig.path("file"), rig.path("back")];
      const data = noise(MEGABYTE);
      writeFileSync(local, data);
      const batch = `put ${local} ${rig.path("remote")}\nget ${rig.path("remote")} ${back}\n`;
      const argv = ["-b", "-", ...ssh.clientOptions(...options()), `${ssh.user}@vm3`];
      const { status, complaint } = await client("sftp", argv, Buffer.from(batch));
      assert.equal(status, 0, complaint + guestLog);
      assertSame(readFileSync(back), data, "what came back");
    });

    it(`runs a command ${way}, with its input, output and status`, async () => {
      const argv = [...ssh.clientOptions(...options()), `${ssh.user}@vm3`, "cat; echo over >&2; exit 7"];
      const data = noise(MEGABYTE);
      const { status, output, complaint } = await client("ssh", argv, data);
      assert.equal(status, 7, complaint + guestLog);
      assert.match(complaint, /^over$/m);
      assertSame(output, data, "what the command wrote");
    });
  }
});
