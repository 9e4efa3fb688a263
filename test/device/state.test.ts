/**
 * A guest that goes on running while its device is lost or restored: other sessions, other processes, other machines.
 */

import assert from "node:assert/strict";
import { closeSync, readSync, writeSync } from "node:fs";
import { describe, it } from "node:test";
import type { VmConfig } from "../../src/device/config/vm-config.js";
import { socketPair } from "../../src/linux/unix-socket.js";
import { builtinVmm } from "../../src/profiles/builtin.js";
import type { VmmProfile } from "../../src/profiles/vmm-profile.js";
import { mask, PROTOCOL_F } from "../../src/virtio/index.js";
import type { FrontEnd } from "../../src/vmm/front-end.js";
import { assertWorks, Rig, readExactly, SUITE_TIMEOUT_MS } from "./rig.js";

async function withRig(use: (rig: Rig) => Promise<void>, config: Partial<VmConfig> = {}): Promise<void> {
  const rig = await Rig.start(config);
  try {
    await use(rig);
  } finally {
    await rig.close();
  }
}

describe("a VMM that reconnects for a running guest", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const name of ["cloud-hypervisor", "crosvm-vhost-user"]) {
    it(`${name}: the guest hears that its connections are gone, and its listeners stay`, () =>
      withRig(async (rig) => {
        const machine = rig.boot({ profile: builtinVmm(name) });
        await assertWorks(rig, machine);
        const guestListener = machine.driver.listen(700);
        const hostListener = await rig.listen(800);
        const idle = await machine.driver.connect(800);
        const host = await hostListener.accept();
        await idle.write(Buffer.from("before"));
        assert.equal((await readExactly(host, 6)).toString(), "before");

        machine.reconnect();
        await rig.until(() => rig.events("transport-reset").length === 1, "the transport reset");
        await rig.until(() => machine.driver.connectionCount === 0, "the end of the idle connection");

        await assertWorks(rig, machine);
        const client = await rig.connect(700);
        const accepted = await guestListener.accept();
        client.write("after");
        assert.equal(Buffer.from((await accepted.read()) ?? []).toString(), "after");
      }));
  }

  it("qemu-7.2, which keeps the event queue: the guest is reset when it uses an old connection", () =>
    withRig(async (rig) => {
      const machine = rig.boot();
      const listener = await rig.listen(800);
      const idle = await machine.driver.connect(800);
      await listener.accept();
      machine.reconnect();
      await idle.write(Buffer.from("into the void"));
      await rig.until(() => machine.driver.connectionCount === 0, "the reset of the connection");
      assert.deepEqual(rig.events("transport-reset"), []);
      await assertWorks(rig, machine);
    }));

  it("is served behind a vIOMMU, and again and again", () =>
    withRig(async (rig) => {
      const machine = rig.boot({ kind: "viommu" });
      for (let round = 0; round < 5; round++) {
        await assertWorks(rig, machine);
        machine.reconnect();
      }
      await assertWorks(rig, machine);
    }));
});

/** A VMM of the name that moves the device's state as well. */
function migrating(name: string): VmmProfile {
  const profile = builtinVmm(name);
  return { ...profile, protocolFeatures: profile.protocolFeatures | mask(PROTOCOL_F.DEVICE_STATE) };
}

/** What the device writes as its state, to the end. */
async function save({ session }: FrontEnd): Promise<Buffer> {
  const [ours, theirs] = socketPair();
  assert.ok(session.setDeviceStateFd("save", theirs));
  closeSync(theirs);
  const pieces: Buffer[] = [];
  for (;;) {
    const piece = Buffer.alloc(65_536);
    try {
      const bytes = readSync(ours, piece);
      if (bytes === 0) break;
      pieces.push(piece.subarray(0, bytes));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EAGAIN") throw error;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
  closeSync(ours);
  assert.ok(session.checkDeviceState());
  return Buffer.concat(pieces);
}

/** Gives the device these bytes for its state; whether it took them. */
function load({ session }: FrontEnd, state: Uint8Array): boolean {
  const [ours, theirs] = socketPair();
  const isTaken = session.setDeviceStateFd("load", theirs);
  closeSync(theirs);
  for (let at = 0; isTaken && at < state.length; ) at += writeSync(ours, state.subarray(at));
  closeSync(ours);
  return session.checkDeviceState();
}

describe("a VM that moves to another device with the first one's state", {
  timeout: SUITE_TIMEOUT_MS,
}, () => {
  /** From one device to another one, of another process for all that the guest and its VMM can tell. */
  async function move(name: string, from: Rig, to: Rig): Promise<void> {
    const machine = from.boot({ profile: migrating(name) });
    const guestListener = machine.driver.listen(700);
    const hostListener = await from.listen(800);
    const oldPorts = new Set<number>();
    for (let index = 0; index < 20; index++) {
      await machine.driver.connect(800);
      await hostListener.accept();
      await from.connect(700);
      oldPorts.add((await guestListener.accept()).peerPort);
    }
    assert.equal(machine.driver.connectionCount, 40);
    const positions = machine.frontEnd.stop();
    const state = await save(machine.frontEnd);

    const socketPath = String(to.configs[0].socketPath);
    const beforeStart = (frontEnd: FrontEnd) => assert.ok(load(frontEnd, state));
    machine.reconnect({ socketPath, positions, beforeStart });
    await to.until(() => machine.driver.connectionCount === 0, "the end of the old connections");
    assert.equal(machine.driver.cid, to.configs[0].guestCid);
    await assertWorks(to, machine);
    for (let index = 0; index < 5; index++) {
      const client = await to.connect(700);
      const accepted = await guestListener.accept();
      assert.ok(!oldPorts.has(accepted.peerPort), "a port that the guest knew");
      client.write("after");
      assert.equal(Buffer.from((await accepted.read()) ?? []).toString(), "after");
    }
  }

  for (const name of ["cloud-hypervisor", "crosvm-vhost-user", "qemu-7.2"]) {
    it(`${name}: its connections end, idle ones too, its listeners stay, and no port is given twice`, () =>
      withRig((from) => withRig((to) => move(name, from, to))));
  }

  it("has the context id of the new device, if the event queue tells it to ask", () =>
    withRig((from) => withRig((to) => move("cloud-hypervisor", from, to), { guestCid: 9 })));

  it("can be restored in the session that it was saved in, again and again", () =>
    withRig(async (rig) => {
      const machine = rig.boot({ profile: migrating("cloud-hypervisor") });
      for (let round = 1; round <= 3; round++) {
        const listener = await rig.listen(800);
        await machine.driver.connect(800);
        await listener.accept();
        const positions = machine.frontEnd.stop();
        const state = await save(machine.frontEnd);
        assert.ok(load(machine.frontEnd, state));
        machine.frontEnd.resume(positions);
        await rig.until(() => machine.driver.connectionCount === 0, "the end of the old connection");
        await assertWorks(rig, machine);
        listener.close();
      }
      assert.equal(rig.events("state-loaded").length, 3);
    }));

  it("is not taken in from bytes that are no state, nor while rings run", () =>
    withRig(async (rig) => {
      const machine = rig.boot({ profile: migrating("cloud-hypervisor") });
      const { frontEnd } = machine;
      assert.equal(load(frontEnd, Buffer.from("{}")), false);
      const positions = frontEnd.stop();
      const state = JSON.parse((await save(frontEnd)).toString());
      for (const bytes of [
        "",
        "nonsense",
        "{}",
        "[]",
        JSON.stringify({ ...state, version: state.version + 1 }),
        JSON.stringify({ ...state, nextPort: -1 }),
        JSON.stringify({ ...state, connections: [[1, 2]] }),
        JSON.stringify({ ...state, connections: [[1, 2, 2 ** 32]] }),
      ]) {
        assert.equal(load(frontEnd, Buffer.from(bytes)), false, bytes);
      }
      frontEnd.resume(positions);
      await assertWorks(rig, machine);
    }));

  it("is refused in a direction, or a phase, that does not exist", () =>
    withRig(async (rig) => {
      const { frontEnd } = rig.boot({ profile: migrating("cloud-hypervisor") });
      frontEnd.stop();
      const [ours, theirs] = socketPair();
      for (const [direction, phase] of [
        [2, 0],
        [0, 1],
      ]) {
        const payload = { kind: "deviceState", direction, phase } as const;
        const answer = frontEnd.session.request("SET_DEVICE_STATE_FD", payload, { fds: [theirs] });
        assert.deepEqual(answer, { kind: "reply", payload: { kind: "u64", value: 1n } });
      }
      closeSync(ours);
      closeSync(theirs);
    }));
});
