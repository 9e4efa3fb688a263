/** `bit33 serve` with groups, as a user starts it: who shares a thread or a process, and VMs that come and go. */
import assert from "node:assert/strict";
import { describe, it, type TestContext } from "node:test";
import type { VirtualMachine } from "../src/vmm/virtual-machine.js";
import { assertSame, noise } from "./device/rig.js";
import { SERVE_TIMEOUT_MS, ServeRig } from "./serve-rig.js";

const PORT = 700;
const BYTES = 100_000;

async function started(t: TestContext, groups: Readonly<Record<number, string>>, ...options: string[]) {
  const rig = new ServeRig();
  t.after(() => rig.close());
  rig.groups = groups;
  const cids = Object.keys(groups).map(Number);
  await rig.start(cids, "--control", rig.path("control"), ...options);
  return rig;
}

/** Boots a guest; the exchange with a host program says that its driver runs. */
async function up(rig: ServeRig, cid: number): Promise<VirtualMachine> {
  const machine = rig.boot(cid);
  await rig.exchange(machine, cid, 1000);
  return machine;
}

async function assertTalk(from: VirtualMachine, to: VirtualMachine, cid: number): Promise<void> {
  const listener = to.driver.listen(PORT);
  const [client, server] = await Promise.all([from.driver.connect(PORT, cid), listener.accept()]);
  listener.close();
  const bytes = noise(BYTES);
  const [received] = await Promise.all([
    server.readToEnd(),
    client.write(bytes).then(() => client.shutdown(2)),
  ]);
  assertSame(received, bytes, "what the sibling got");
  await Promise.all([client.close(), server.close()]);
}

async function pidsOf(rig: ServeRig): Promise<Map<number, number>> {
  const { reports } = JSON.parse((await rig.ctl("stats", "--json")).output);
  return new Map(
    reports.map(({ cid, process }: { cid: number; process: { pid: number } }) => [cid, process.pid]),
  );
}

describe("bit33 serve with groups", { timeout: SERVE_TIMEOUT_MS }, () => {
  it("says who shares which, and lets a VM that is added talk to its siblings", async (t) => {
    const rig = await started(t, { 3: "a", 4: "a+b", 5: "c" });
    assert.match((await rig.logged("siblings")).message, /^VMs 3, 4 share groups \(a\)/);
    const [three, four, five] = [await up(rig, 3), await up(rig, 4), await up(rig, 5)];
    await assertTalk(three, four, 4);
    await assert.rejects(three.driver.connect(PORT, 5), { code: "ECONNRESET" });
    rig.groups = { 6: "c" };
    assert.equal((await rig.add(6)).status, 0);
    const six = await up(rig, 6);
    await assertTalk(six, five, 5);
    await assertTalk(three, four, 4);
  });

  it("resets connections with a VM that is removed, and goes on with its siblings", async (t) => {
    const rig = await started(t, { 3: "a", 4: "a", 5: "a" });
    const [three, four, five] = [await up(rig, 3), await up(rig, 4), await up(rig, 5)];
    const listener = four.driver.listen(PORT);
    const [client] = await Promise.all([three.driver.connect(PORT, 4), listener.accept()]);
    assert.equal((await rig.ctl("remove", "--guest-cid=4")).status, 0);
    await client.closed;
    assert.equal(client.wasReset, true);
    await assert.rejects(three.driver.connect(PORT, 4), { code: "ECONNRESET" });
    await assertTalk(five, three, 3);
    rig.groups = { 4: "a" };
    assert.equal((await rig.add(4)).status, 0);
    await assertTalk(three, await up(rig, 4), 4);
  });

  it("refuses a VM that would join two threads, and changes nothing", async (t) => {
    const rig = await started(t, { 3: "a", 4: "b" });
    rig.groups = { 5: "a+b" };
    const { status, complaint } = await rig.add(5);
    assert.equal(status, 2);
    assert.match(
      complaint,
      /^bit33: add \(groups\): VM 5 would be a sibling of 3, 4 \(a\+b\), and these run in threads/,
    );
    assert.equal((await rig.ctl("list")).output.split("\n").length, 3);
    await up(rig, 3);
  });
});

describe("bit33 serve --isolate process with groups", { timeout: SERVE_TIMEOUT_MS }, () => {
  const options = ["--isolate", "process"];

  it("gives siblings one process, which takes no other in, and others one each", async (t) => {
    const rig = await started(t, { 3: "a", 4: "a", 5: "default", 6: "default" }, ...options);
    const pids = await pidsOf(rig);
    assert.equal(pids.get(3), pids.get(4));
    assert.equal(new Set(pids.values()).size, 3);
    const [three, four] = [await up(rig, 3), await up(rig, 4)];
    await assertTalk(four, three, 3);
    await up(rig, 6);
    await assert.rejects((await up(rig, 5)).driver.connect(PORT, 6), { code: "ECONNRESET" });
    rig.groups = { 7: "a" };
    const { status, complaint } = await rig.add(7);
    assert.equal(status, 2);
    assert.match(
      complaint,
      /add \(groups\): VM 7 would be a sibling of 3, 4 \(a\), and siblings share a process/,
    );
  });

  it("starts siblings again together, without one that was removed", async (t) => {
    const rig = await started(t, { 3: "a", 4: "a", 5: "a" }, ...options);
    const pid = (await pidsOf(rig)).get(3) ?? 0;
    assert.equal((await rig.ctl("remove", "--guest-cid=4")).status, 0);
    assert.equal((await pidsOf(rig)).get(3), pid, "the others go on");
    process.kill(pid, "SIGKILL");
    await rig.logged("process-died", 3);
    await rig.logged("process-died", 5);
    await assertTalk(await up(rig, 3), await up(rig, 5), 5);
    assert.deepEqual(await rig.stop(), [0, null]);
    assert.ok(!rig.log.some(({ event, vm }) => event === "process-died" && vm === 4));
  });
});
