/**
 * The list of checks that runs in every kind of guest: stream connections from both sides, with everything that can
 * end them. Must not know which kind of guest it is running in.
 */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { over, readBytes, readToEnd, summary, writeAll } from "./host.js";
import type { Lab } from "./lab.js";
import { streamBytes } from "./stream.js";

export interface Check {
  name: string;
  run: (lab: Lab) => Promise<void>;
}

export const mebibyte = 1024 * 1024;
const bigBytes = 16 * mebibyte;
const manyConnections = 200;
const manyBytes = 4096;
/** Enough that both socket buffers and the credit window are in use when an application dies. */
const midwayBytes = 2 * mebibyte;
/** As good as endless: an application that only its death stops. */
const endlessBytes = 2 ** 40;
const nobodysPort = 999;

/** Echoes until the other side ends its direction, then ends its own. */
function echo(socket: Socket): void {
  socket.pipe(socket);
}

/** Sends a stream and expects it back. Nothing is half-closed: that has checks of its own. */
export async function expectEcho(socket: Socket, bytes: Buffer): Promise<void> {
  const answer = readBytes(socket, bytes.length);
  socket.write(bytes);
  assert.equal(summary(await answer), summary(bytes));
  socket.destroy();
}

export async function echoFromHost(lab: Lab, bytes = 65536): Promise<void> {
  const port = lab.freshPort();
  const server = await lab.guest.serve("echo-server", port);
  await expectEcho(await lab.host.connect(port), streamBytes(bytes, port));
  await lab.guest.kill(server);
}

export async function echoFromGuest(lab: Lab, bytes = 65536): Promise<void> {
  const port = lab.freshPort();
  await lab.host.listen(port, echo);
  await lab.guest.run("echo-client", port, 1, bytes, port);
}

/**
 * The guest sends and ends its direction; only then the host answers and ends its own. `halfway` runs once a part
 * has arrived.
 */
export async function guestSpeaksFirst(
  lab: Lab,
  from: "guest" | "host",
  bytes: number,
  answerBytes: number,
  halfway?: (received: number) => void,
): Promise<void> {
  const port = lab.freshPort();
  const answer = streamBytes(answerBytes, port + 1);
  const { socket, job } = await talk(lab, from, port, "first", bytes);
  const received = await readToEnd(socket, halfway);
  const sent = streamBytes(bytes, port);
  assert.equal(summary(received), summary(sent), "what the host received");
  socket.end(answer);
  assert.equal(await lab.guest.finish(job), `sent ${summary(sent)} received ${summary(answer)}`);
}

/** The host sends and ends its direction; only then the guest answers and ends its own. */
export async function hostSpeaksFirst(
  lab: Lab,
  from: "guest" | "host",
  bytes: number,
  answerBytes: number,
  halfway?: (written: number) => void,
): Promise<void> {
  const port = lab.freshPort();
  const { socket, job } = await talk(lab, from, port, "last", answerBytes);
  const sent = streamBytes(bytes, port + 1);
  const answer = readToEnd(socket);
  for (let at = 0; at < sent.length; at += mebibyte) {
    await writeAll(socket, sent.subarray(at, at + mebibyte));
    halfway?.(at + mebibyte);
  }
  socket.end();
  const expected = streamBytes(answerBytes, port);
  assert.equal(summary(await answer), summary(expected), "what the host received");
  assert.equal(await lab.guest.finish(job), `sent ${summary(expected)} received ${summary(sent)}`);
}

/** Opens one connection from the named side, with `talk` at the guest's end. */
export async function talk(
  lab: Lab,
  from: "guest" | "host",
  port: number,
  turn: "first" | "last",
  bytes: number,
) {
  if (from === "host") {
    const job = await lab.guest.serve("talk", "accept", port, turn, bytes, port);
    return { socket: await lab.host.connect(port), job };
  }
  const { connection } = await lab.host.accept(port);
  const job = lab.guest.start("talk", "connect", port, turn, bytes, port);
  // A guest that cannot connect says why, long before the wait for its connection ends.
  const socket = await Promise.race([connection, job.result.then(() => connection)]);
  return { socket, job };
}

async function manyFromGuest(lab: Lab): Promise<void> {
  const port = lab.freshPort();
  await lab.host.listen(port, echo);
  await lab.guest.run("echo-client", port, manyConnections, manyBytes, port);
}

/** All connections stand before the first byte is sent. */
async function manyFromHost(lab: Lab): Promise<void> {
  const port = lab.freshPort();
  const server = await lab.guest.serve("echo-server", port);
  const sockets = await Promise.all(Array.from({ length: manyConnections }, () => lab.host.connect(port)));
  await Promise.all(sockets.map((socket, index) => expectEcho(socket, streamBytes(manyBytes, port + index))));
  await lab.guest.kill(server);
}

async function nobodyListensOnHost(lab: Lab): Promise<void> {
  assert.equal(await lab.guest.run("connect", nobodysPort), "ECONNRESET");
}

async function nobodyListensInGuest(lab: Lab): Promise<void> {
  const { socket, answer } = await lab.host.ask(nobodysPort);
  assert.equal(answer, "", "the connection is closed without OK");
  await over(socket);
}

/** The host sees an end or a reset; what arrived before it is what was sent. */
async function guestSenderKilled(lab: Lab): Promise<void> {
  const port = lab.freshPort();
  const { socket, job } = await talk(lab, "guest", port, "first", endlessBytes);
  const parts: Buffer[] = [];
  socket.on("data", (part: Buffer) => parts.push(part));
  await readBytes(socket, midwayBytes);
  const end = over(socket);
  await lab.guest.kill(job);
  await end;
  const received = Buffer.concat(parts);
  assert.equal(summary(received), summary(streamBytes(received.length, port)));
}

async function guestReceiverKilled(lab: Lab): Promise<void> {
  const { socket, job } = await talk(lab, "host", lab.freshPort(), "last", 0);
  const end = over(socket);
  // Without a reader of its own, a socket never notices the other side's end.
  socket.resume();
  const part = Buffer.alloc(65536);
  for (let written = 0; written < midwayBytes; written += part.length) await writeAll(socket, part);
  const more = (error?: Error | null): void => {
    if (!error && !socket.destroyed) socket.write(part, more);
  };
  more();
  await lab.guest.kill(job);
  await end;
}

async function hostReceiverGone(lab: Lab): Promise<void> {
  const { socket, job } = await talk(lab, "guest", lab.freshPort(), "first", endlessBytes);
  await readBytes(socket, midwayBytes);
  socket.destroy();
  await assert.rejects(lab.guest.finish(job), /: send after \d+ bytes: (EPIPE|ECONNRESET)$/);
}

/** The guest may see an end or a reset, but never a byte that was not sent. */
async function hostSenderGone(lab: Lab): Promise<void> {
  const port = lab.freshPort();
  const { socket, job } = await talk(lab, "host", port, "last", 0);
  const sent = streamBytes(midwayBytes, port);
  await writeAll(socket, sent);
  socket.destroy();
  const report = await lab.guest.finish(job).catch((error: Error) => error.message);
  const received = /received (\d+) (\w+)$/.exec(report);
  if (received) assert.equal(received[0], `received ${summary(sent.subarray(0, Number(received[1])))}`);
  else assert.match(report, /: ECONNRESET$/);
}

/** Nothing that the device did made the guest's drivers or its IOMMU complain. */
async function kernelIsContent(lab: Lab): Promise<void> {
  const complaint =
    /(virtio|vsock).*(not a head|out of range|fail|error|truncated)|DMAR:.*fault|Oops|BUG: (unable|kernel|bad)/i;
  const complaints = (await lab.guest.lines("dmesg")).filter((line) => complaint.test(line));
  assert.deepEqual(complaints, []);
}

export const checks: Check[] = [
  { name: "an echo started by the guest", run: (lab) => echoFromGuest(lab, 262144) },
  { name: "an echo started by the host", run: (lab) => echoFromHost(lab, 262144) },
  {
    name: "16 MiB from the guest arrive unchanged",
    run: (lab) => guestSpeaksFirst(lab, "guest", bigBytes, 0),
  },
  { name: "16 MiB from the host arrive unchanged", run: (lab) => hostSpeaksFirst(lab, "host", bigBytes, 0) },
  {
    name: "the guest ends its direction of its own connection and still gets an answer",
    run: (lab) => guestSpeaksFirst(lab, "guest", 100_000, 300_001),
  },
  {
    name: "the guest ends its direction of the host's connection and still gets an answer",
    run: (lab) => guestSpeaksFirst(lab, "host", 100_000, 300_001),
  },
  {
    name: "the host ends its direction of its own connection and still gets an answer",
    run: (lab) => hostSpeaksFirst(lab, "host", 100_000, 300_001),
  },
  {
    name: "the host ends its direction of the guest's connection and still gets an answer",
    run: (lab) => hostSpeaksFirst(lab, "guest", 100_000, 300_001),
  },
  { name: "200 connections of the guest at once", run: manyFromGuest },
  { name: "200 connections of the host at once", run: manyFromHost },
  { name: "the guest's connection to a port nobody listens on is reset", run: nobodyListensOnHost },
  {
    name: "the host's connection to a port nobody listens on is closed without OK",
    run: nobodyListensInGuest,
  },
  { name: "an application that sends in the guest is killed", run: guestSenderKilled },
  { name: "an application that receives in the guest is killed", run: guestReceiverKilled },
  { name: "an application that receives on the host goes away", run: hostReceiverGone },
  { name: "an application that sends on the host goes away", run: hostSenderGone },
  { name: "after all that the guest still gets its echo", run: (lab) => echoFromGuest(lab) },
  { name: "after all that the host still gets its echo", run: (lab) => echoFromHost(lab) },
  { name: "after all that the guest's kernel has nothing to complain about", run: kernelIsContent },
];
