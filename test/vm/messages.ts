/**
 * Seqpacket sockets between guest and host, in every kind of guest that has them: messages of all sizes, in both
 * directions, over connections from both sides. The host's applications are plain seqpacket Unix sockets.
 */
import assert from "node:assert/strict";
import { allowMessages } from "../../src/linux/seqpacket.js";
import { VSOCK_F } from "../../src/virtio/index.js";
import { HostMessages } from "../host-messages.js";
import type { Check } from "./checks.js";
import { Device } from "./device.js";
import { over } from "./host.js";
import type { GuestKind } from "./kinds.js";
import type { Lab } from "./lab.js";
import { sha256, streamBytes } from "./stream.js";
import { until } from "./waiting.js";

/** Around what a page, a receive buffer (4 KiB and less) and a packet of Linux (64 KiB) hold, and far beyond. */
const LENGTHS = [1, 44, 4000, 4096, 4097, 65_536, 65_537, 200_000, 2, 131_072, 3];
/** More than a guest's receive buffer of 256 KiB, and than what the device takes: docs/seqpacket.md. */
const TOO_LONG_FOR_GUEST = 262_145;
const TOO_LONG_FOR_HOST = 425_953;

/** What the guest program reports of messages with the lengths of `lengths`, cut out of one stream. */
function summary(lengths: readonly number[], seed: number): string {
  return `${lengths.join(",")} ${sha256(cut(lengths, seed).bytes)}`;
}

function cut(lengths: readonly number[], seed: number): { bytes: Buffer; messages: Buffer[] } {
  const bytes = streamBytes(
    lengths.reduce((sum, length) => sum + length, 0),
    seed,
  );
  let end = 0;
  const messages = lengths.map((length) => {
    end += length;
    return bytes.subarray(end - length, end);
  });
  return { bytes, messages };
}

/** Opens one connection from the named side, with `messages` at the guest's end. */
async function open(lab: Lab, from: "guest" | "host", turn: "first" | "last", lengths: readonly number[]) {
  const port = lab.freshPort();
  const list = lengths.join(",");
  if (from === "guest") {
    const listener = HostMessages.listen(lab.udsPath, port);
    try {
      const job = lab.guest.start("messages", "connect", port, turn, list, port);
      const accepted = listener.accept();
      // A guest that cannot connect says why, long before the wait for its connection ends.
      return { port, job, host: await Promise.race([accepted, job.result.then(() => accepted)]) };
    } finally {
      listener.close();
    }
  }
  const job = await lab.guest.serve("messages", "accept", port, turn, list, port);
  return { port, job, host: await HostMessages.connect(lab.udsPath, port) };
}

/** Both send all of LENGTHS, one after the other, and end their directions. */
async function exchanged(lab: Lab, from: "guest" | "host", first: "guest" | "host"): Promise<void> {
  const { port, job, host } = await open(lab, from, first === "guest" ? "first" : "last", LENGTHS);
  try {
    const sent = cut(LENGTHS, port + 1);
    const send = async (): Promise<void> => {
      for (const message of sent.messages) await host.send(message);
      host.endWriting();
    };
    if (first === "host") await send();
    const received = await host.receiveAll();
    assert.deepEqual(
      received.map(({ length }) => length),
      LENGTHS,
      "the boundaries at the host",
    );
    assert.equal(sha256(Buffer.concat(received)), sha256(cut(LENGTHS, port).bytes));
    if (first === "guest") await send();
    assert.equal(
      await lab.guest.finish(job),
      `sent ${summary(LENGTHS, port)} received ${summary(LENGTHS, port + 1)}`,
    );
  } finally {
    host.close();
  }
}

/** `refusal`: the error that the guest's program gets. */
async function tooLongForHost(lab: Lab, refusal: string): Promise<void> {
  const { job, host } = await open(lab, "guest", "first", [10, TOO_LONG_FOR_HOST]);
  try {
    await assert.rejects(
      lab.guest.finish(job),
      new RegExp(`send of ${TOO_LONG_FOR_HOST} bytes: ${refusal}$`),
    );
    assert.deepEqual(
      (await host.receiveAll()).map(({ length }) => length),
      [10],
    );
  } finally {
    host.close();
  }
}

async function tooLongForGuest(lab: Lab): Promise<void> {
  const { job, host } = await open(lab, "host", "last", [1]);
  try {
    allowMessages(host.fd, TOO_LONG_FOR_GUEST);
    await host.send(Buffer.alloc(10));
    await host.send(Buffer.alloc(TOO_LONG_FOR_GUEST));
    // Linux gives its program an end, and an error once it sends.
    await assert.rejects(lab.guest.finish(job), /: send of 1 bytes: (EPIPE|ECONNRESET)$/);
    if (Device.isForeign) return;
    const isLogged = () =>
      lab.device
        .events("connection-reset")
        .some(({ message }) => `${message}`.includes(`${TOO_LONG_FOR_GUEST}`));
    await until("the device logs how long the message was", () => isLogged() || undefined);
  } finally {
    host.close();
  }
}

/** A stream socket at a seqpacket listener of the guest: a port is of one type. */
async function typesAreApart(lab: Lab): Promise<void> {
  const port = lab.freshPort();
  const job = await lab.guest.serve("messages", "accept", port, "last", "1", port);
  const { socket, answer } = await lab.host.ask(port);
  assert.equal(answer, "", "the connection is closed without OK");
  await over(socket);
  await lab.guest.kill(job);
}

/** `refused`: the call that the guest's kernel refuses. */
async function hasNone(lab: Lab, refused: "socket" | "connect"): Promise<void> {
  const job = lab.guest.start("messages", "connect", lab.freshPort(), "first", "1", 1);
  await assert.rejects(lab.guest.finish(job), new RegExp(`: ${refused}: ESOCKTNOSUPPORT$`));
}

/** Whoever asks for a guest that did not negotiate VIRTIO_VSOCK_F_SEQPACKET is told at once. */
async function hostIsRefused(lab: Lab): Promise<void> {
  const host = await HostMessages.ask(lab.udsPath, lab.freshPort());
  try {
    assert.deepEqual(await host.receive(), Buffer.alloc(0), "the connection is closed without OK");
  } finally {
    host.close();
  }
}

export function messageChecks({ kernel, withheld }: GuestKind): Check[] {
  // Since Linux 5.14.
  if (kernel === "5.10")
    return [{ name: "the guest has no seqpacket sockets", run: (lab) => hasNone(lab, "socket") }];
  if (withheld?.includes(VSOCK_F.VSOCK_SEQPACKET))
    return [
      { name: "a seqpacket connection of the guest is refused in it", run: (lab) => hasNone(lab, "connect") },
      { name: "a seqpacket connection of the host is closed", run: hostIsRefused },
    ];
  return [
    {
      name: "messages from the guest, then from the host, over the guest's connection",
      run: (lab) => exchanged(lab, "guest", "guest"),
    },
    {
      name: "messages from the host, then from the guest, over the host's connection",
      run: (lab) => exchanged(lab, "host", "host"),
    },
    {
      name: "a message longer than the device's buffer is refused in the guest",
      // Linux 6.1 makes ENOMEM of every error of its transport ("vsock: return errors other than -ENOMEM to socket" came later).
      run: (lab) => tooLongForHost(lab, kernel === "6.1" ? "ENOMEM" : "EMSGSIZE"),
    },
    { name: "a message longer than the guest's buffer resets the connection", run: tooLongForGuest },
    { name: "a stream connection to a seqpacket listener of the guest is refused", run: typesAreApart },
  ];
}
