/**
 * The device's process is killed under load, and another one takes the guest's rings up (INFLIGHT_SHMFD): the rings go
 * on, nothing is done twice, and every old connection ends.
 */

import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { describe, it } from "node:test";
import { END_OF_MESSAGES, peekMessage } from "../../src/linux/seqpacket.js";
import { acceptUnix } from "../../src/linux/unix-socket.js";
import { VirtualMachine } from "../../src/vmm/virtual-machine.js";
import { keepInflight, keeping, QUEUE_SIZE, Served, until } from "./killed-rig.js";
import { SUITE_TIMEOUT_MS } from "./rig.js";

describe("a device that is killed under load", { timeout: SUITE_TIMEOUT_MS }, () => {
  for (const [name, isolate, rounds] of [
    ["qemu-7.2", "thread", 3],
    ["cloud-hypervisor", "thread", 3],
    ["qemu-7.2", "process", 1],
  ] as const) {
    it(`${name}, a ${isolate} a VM: another takes the rings up, does nothing twice, and ends every old connection`, async () => {
      const served = new Served(isolate);
      await served.start();
      const options = {
        socketPath: served.socketPaths[0],
        profile: keeping(name),
        platform: { kind: "direct" },
        queueSize: QUEUE_SIZE,
      } as const;
      const machine = new VirtualMachine(options);
      try {
        const received = await served.listen(800);
        const useFile = keepInflight(machine);

        for (let round = 0; round < rounds; round++) {
          received.length = 0;
          const idle = await machine.driver.connect(800);
          await idle.write(Buffer.from([0xff]));
          // Numbers in order: whatever comes twice, or is lost in between, shows.
          const numbers = new Uint32Array(256 * 1024);
          numbers.forEach((_, index) => {
            numbers[index] = index;
          });
          const busy = await machine.driver.connect(800);
          busy.write(Buffer.from(numbers.buffer)).catch(() => {});
          const bytes = () => received.flat().reduce((sum, { length }) => sum + length, 0);
          await until(() => bytes() > 100_000, "some of the load");
          await served.replace();
          machine.reconnect({ beforeStart: useFile });
          await until(() => machine.driver.connectionCount === 0, "the end of all old connections");

          const [, numbersArrived] = received;
          const arrived = Buffer.concat(numbersArrived);
          for (let at = 0; at + 4 <= arrived.length; at += 4) assert.equal(arrived.readUInt32LE(at), at / 4);
          const works = await machine.driver.connect(800);
          await works.write(Buffer.from("works"));
          await until(
            () => received.length === 3 && Buffer.concat(received[2]).toString() === "works",
            "a new connection's data",
          );
          await works.close();
        }
      } finally {
        machine.kill();
        await served.close();
      }
    });
  }

  it("idle connections of both types and from both sides end without a word of the guest's", async () => {
    const served = new Served();
    await served.start();
    const machine = new VirtualMachine({
      socketPath: served.socketPaths[0],
      profile: keeping("qemu-7.2"),
      platform: { kind: "direct" },
      queueSize: QUEUE_SIZE,
    });
    const { driver } = machine;
    const messages = served.listenSeqpacket(801);
    try {
      const opened = await served.listen(800);
      // These two are there before the file comes.
      await driver.connect(800);
      const message = await driver.connectSeqpacket(801);
      const useFile = keepInflight(machine);
      const listener = driver.listen(700);
      const host = await served.connect(700);
      const fromHost = await listener.accept();
      await message.write(Buffer.from("whole"));
      const messageEnd = acceptUnix(messages);
      await until(() => peekMessage(messageEnd) === 5, "a message");
      assert.equal(driver.connectionCount, 3);

      await served.replace();
      machine.reconnect({ beforeStart: useFile });
      await until(() => driver.connectionCount === 0, "the end of all old connections");
      await assert.rejects(fromHost.write(Buffer.from("?")));
      await until(() => host.destroyed || host.readableEnded, "the end of the host's connection");
      // What had been delivered stays so, and its end follows.
      assert.equal(peekMessage(messageEnd), 5);
      closeSync(messageEnd);

      const again = await driver.connectSeqpacket(801);
      await again.write(Buffer.from("works"));
      const next = acceptUnix(messages);
      await until(() => peekMessage(next) === 5, "a message of a new connection");
      assert.notEqual(peekMessage(next), END_OF_MESSAGES);
      closeSync(next);
      assert.equal(opened.length, 1);
    } finally {
      machine.kill();
      closeSync(messages);
      await served.close();
    }
  });
});
