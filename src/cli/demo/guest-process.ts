/**
 * The guest's process: boots the built-in guest with a VMM's front-end and does what the demo tells it. It shares
 * memory and eventfds with the device and nothing else; its orders and answers go over Node's IPC.
 */

import type { DmaKind } from "../../guest/dma.js";
import type { GuestListener } from "../../guest/listener.js";
import { builtinVmm } from "../../profiles/builtin.js";
import { hex } from "../../virtio/index.js";
import { StartRefused } from "../../vmm/player.js";
import { VirtualMachine } from "../../vmm/virtual-machine.js";
import { Shutdown } from "../../vsock/header.js";
import type { FromGuest, ToGuest } from "./messages.js";
import { Gathered, noise, sumOf } from "./payload.js";

let machine: VirtualMachine | undefined;
let listener: GuestListener | undefined;

function running(): VirtualMachine {
  if (machine === undefined) throw new Error("the guest is not booted");
  return machine;
}

function boot(socketPath: string, kind: DmaKind, vmm: string): FromGuest {
  machine = new VirtualMachine({
    socketPath,
    profile: builtinVmm(vmm === "crosvm" ? "crosvm-vhost-user" : "qemu-7.2"),
    platform: { kind },
  });
  const { offeredByBackend, offeredToGuest, acknowledgedByGuest, sentToBackend } = machine.negotiation;
  return {
    kind: "booted",
    cid: machine.driver.cid,
    negotiated: {
      offeredByDevice: hex(offeredByBackend),
      offeredToGuest: hex(offeredToGuest),
      takenByGuest: hex(acknowledgedByGuest),
      toldToDevice: hex(sentToBackend),
    },
  };
}

async function send(port: number, bytes: number): Promise<FromGuest> {
  const data = noise(bytes);
  const connection = await running().driver.connect(port);
  await connection.write(data);
  connection.shutdown(Shutdown.SEND);
  // The host closes when it has everything.
  await connection.read();
  await connection.close();
  return { kind: "sent", bytes, sum: sumOf(data) };
}

async function receive(from: GuestListener | undefined, expectedBytes: number): Promise<FromGuest> {
  if (from === undefined) throw new Error("the guest does not listen");
  const connection = await from.accept();
  const gathered = new Gathered(expectedBytes);
  connection.consume((piece) => gathered.add(piece));
  await connection.read();
  await connection.close();
  return { kind: "received", bytes: gathered.bytes, sum: gathered.sum() };
}

function powerOff(): FromGuest {
  const { frontEnd } = running();
  running().close();
  const { iotlb, negotiation, session } = frontEnd;
  if (iotlb === undefined || !negotiation.translates) return { kind: "off", iotlb: undefined };
  const { updates, invalidations } = iotlb;
  return { kind: "off", iotlb: { misses: session.missCount, updates, invalidations } };
}

async function obey(order: ToGuest): Promise<FromGuest> {
  switch (order.kind) {
    case "boot":
      return boot(order.socketPath, order.dma, order.vmm);
    case "send":
      return send(order.port, order.bytes);
    case "listen":
      listener = running().driver.listen(order.port);
      return { kind: "listening" };
    case "receive":
      return receive(listener, order.bytes);
    case "power-off":
      return powerOff();
  }
}

function reasonOf(error: unknown): string {
  if (error instanceof StartRefused) return `the ${error.by} refused: ${error.message}`;
  return error instanceof Error ? error.message : String(error);
}

process.on("message", (order: ToGuest) => {
  obey(order)
    .catch((error: unknown): FromGuest => ({ kind: "failed", reason: reasonOf(error) }))
    .then((answer) => {
      process.send?.(answer, () => {
        if (answer.kind === "off") process.exit(0);
      });
    });
});
// The demo is gone: nobody wants the guest any more.
process.on("disconnect", () => process.exit(1));
