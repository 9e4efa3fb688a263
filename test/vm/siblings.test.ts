/**
 * Two real guests behind one program talk to each other by CID, streams and messages, whoever connects; also with a
 * virtio-iommu in front of either device. Must not know rings or vhost-user.
 */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ourCli } from "./device.js";
import { Guest } from "./guest.js";
import { type GuestKind, guestKinds } from "./kinds.js";
import { qemuCommand } from "./lab.js";
import { vmFolder, whatIsMissing } from "./paths.js";
import { Program } from "./program.js";
import { sha256, streamBytes } from "./stream.js";
import { until } from "./waiting.js";

const missing = whatIsMissing();
if (missing !== undefined) throw new Error(`${missing}: npm run setup:vm prepares the guests`);

const STREAM_BYTES = 3 * 1024 * 1024;
/** `e` marks the end of a record. Around what a receive buffer and a packet of Linux hold, and as much as a socket takes. */
const MESSAGES = "1,4000,4096e,4097,65536,65537e,200000,2e,131072,3";
const CIDS = [3, 4];

function kindOf(name: string): GuestKind {
  const kind = guestKinds.find((each) => each.name === name);
  if (kind === undefined) throw new Error(`there is no kind of guest named ${name}`);
  return kind;
}

/** One guest's QEMU, and the program in the guest. */
class Sibling {
  readonly cid: number;
  readonly guest = new Guest((line) => this.#qemu.child.stdin.write(`${line}\n`));
  readonly #qemu: Program;

  constructor(kind: GuestKind, cid: number, folder: string, logFolder: string) {
    this.cid = cid;
    for (const made of [join(folder, `${cid}`), join(logFolder, `${cid}`)]) mkdirSync(made);
    const command = qemuCommand(
      kind,
      join(folder, `${cid}`),
      join(logFolder, `${cid}`),
      join(folder, `vhost${cid}`),
    );
    this.#qemu = new Program("QEMU", command, join(logFolder, `guest${cid}.log`), (line) =>
      this.guest.read(line),
    );
  }

  alive<T>(promise: Promise<T>): Promise<T> {
    return this.#qemu.alongside(promise);
  }

  stop(): Promise<string> {
    return this.#qemu.stop();
  }
}

class Pair {
  readonly device: Program;
  readonly siblings: Sibling[] = [];
  readonly #kinds: readonly GuestKind[];
  readonly #logFolder: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "b33-"));
  #port = 5000;

  constructor(kinds: readonly GuestKind[], logFolder: string) {
    rmSync(logFolder, { recursive: true, force: true });
    mkdirSync(logFolder, { recursive: true });
    const vms = CIDS.flatMap((cid) => {
      const paths = `socket=${join(this.#folder, `vhost${cid}`)},uds-path=${join(this.#folder, `vsock${cid}`)}`;
      return ["--vm", `guest-cid=${cid},${paths},groups=pair`];
    });
    const serve = [process.execPath, ourCli, "serve", ...vms, "--log-format", "json"];
    this.device = new Program("the device", serve, join(logFolder, "device.log"));
    this.#kinds = kinds;
    this.#logFolder = logFolder;
  }

  events(name: string): Record<string, unknown>[] {
    return this.device.lines
      .map((line) => JSON.parse(line) as Record<string, unknown>)
      .filter(({ event }) => event === name);
  }

  async boot(): Promise<void> {
    await this.device.alongside(
      until("both sockets", () => this.events("listening").length === 2 || undefined),
    );
    for (const [index, kind] of this.#kinds.entries())
      this.siblings.push(new Sibling(kind, CIDS[index], this.#folder, this.#logFolder));
    await Promise.all(this.siblings.map((sibling) => sibling.alive(sibling.guest.booted(1))));
  }

  /** `command` (`talk` or `messages`) in both guests, one of which connects; what each reports. */
  async converse(command: string, from: Sibling, to: Sibling, word: string | number): Promise<void> {
    const port = ++this.#port;
    const accepting = await to.guest.serve(command, "accept", port, "last", word, port);
    const connecting = from.guest.start(command, "connect", `${to.cid}:${port}`, "first", word, port + 1);
    const [there, here] = [await to.guest.finish(accepting), await from.guest.finish(connecting)];
    const bytes = typeof word === "number" ? word : total(word);
    const [sent, answered] = [port + 1, port].map((seed) => `${word} ${sha256(streamBytes(bytes, seed))}`);
    assert.equal(here, `sent ${sent} received ${answered}`, `what CID ${from.cid} says`);
    assert.equal(there, `sent ${answered} received ${sent}`, `what CID ${to.cid} says`);
  }

  async stop(): Promise<string> {
    await Promise.all(this.siblings.map((sibling) => sibling.stop()));
    const how = await this.device.stop();
    rmSync(this.#folder, { recursive: true, force: true });
    return how;
  }
}

function total(lengths: string): number {
  return lengths.split(",").reduce((sum, length) => sum + Number.parseInt(length, 10), 0);
}

for (const names of [
  ["plain", "plain"],
  ["plain", "virtio-iommu"],
  ["virtio-iommu", "virtio-iommu"],
]) {
  test(`sibling guests: ${names.join(" and ")}`, async (t) => {
    const logFolder = join(
      process.env.BIT33_VM_LOGS ?? join(vmFolder, "logs"),
      `siblings-${names.join("-")}`,
    );
    const pair = new Pair(names.map(kindOf), logFolder);
    let failed = true;
    try {
      await pair.boot();
      const [a, b] = pair.siblings;
      const check = (name: string, run: () => Promise<void>) =>
        t.test(name, () => a.alive(b.alive(pair.device.alongside(run()))));
      const modes = names.map((name) => kindOf(name).translation);
      await check("one is translated as its VMM says, and so is the other", async () => {
        const decided = pair.events("translation-mode");
        for (const [index, cid] of CIDS.entries())
          assert.equal(decided.filter(({ vm }) => vm === cid).at(-1)?.mode, modes[index]);
      });
      await check("streams, whoever connects", async () => {
        await pair.converse("talk", a, b, STREAM_BYTES);
        await pair.converse("talk", b, a, STREAM_BYTES);
      });
      await check("messages with ends of records, whoever connects", async () => {
        await pair.converse("messages", a, b, MESSAGES);
        await pair.converse("messages", b, a, MESSAGES);
      });
      await check("streams both ways at once, and messages beside them", async () => {
        await Promise.all([
          pair.converse("talk", a, b, STREAM_BYTES),
          pair.converse("talk", b, a, STREAM_BYTES),
          pair.converse("messages", a, b, MESSAGES),
        ]);
      });
      await check("a port where nobody listens is reset", async () => {
        assert.equal(await a.guest.run("connect", `${b.cid}:4000`), "ECONNRESET");
      });
      await check("a sibling whose program dies resets what it was talking", async () => {
        const server = await b.guest.serve("echo-server", 4001);
        const talk = a.guest.start("talk", "connect", `${b.cid}:4001`, "first", 2 ** 40, 1);
        await b.guest.kill(server);
        await assert.rejects(a.guest.finish(talk), /(EPIPE|ECONNRESET)$/);
      });
      failed = false;
    } finally {
      const end = await pair.stop();
      if (failed) console.error(readFileSync(join(logFolder, "device.log"), "utf8").slice(-4000));
      assert.equal(end, "exit status 0", "the device ends cleanly on SIGTERM");
    }
  });
}
