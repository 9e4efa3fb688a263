/** A host program's end of a seqpacket Unix socket, for tests: whole messages, waited for. Knows nothing of the device. */
import assert from "node:assert/strict";
import { closeSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { errno } from "../src/linux/errors.js";
import {
  acceptUnix,
  connectUnix,
  createSocket,
  listenUnix,
  SOCK_SEQPACKET,
} from "../src/linux/unix-socket.js";
import { HostEnd } from "../src/vsock/switch-rig.js";

/** A net for what hangs; no test depends on it. */
const PATIENCE_MS = 60_000;

async function ready<T>(what: string, ask: () => T | undefined): Promise<T> {
  for (const deadlineMs = performance.now() + PATIENCE_MS; ; await sleep(2)) {
    const answer = ask();
    if (answer !== undefined) return answer;
    assert.ok(performance.now() < deadlineMs, `waited in vain: ${what}`);
  }
}

export class HostMessages {
  readonly #end: HostEnd;

  private constructor(readonly fd: number) {
    this.#end = new HostEnd(fd);
  }

  /** Through the device to a port of the guest: the handshake on `<uds-path>_seqpacket`. */
  static async connect(udsPath: string, port: number): Promise<HostMessages> {
    const messages = await HostMessages.ask(udsPath, port);
    assert.match(String(await messages.receive()), /^OK \d+\n$/);
    return messages;
  }

  /** The first half of the handshake: the answer is still to come. */
  static async ask(udsPath: string, port: number): Promise<HostMessages> {
    const fd = createSocket(SOCK_SEQPACKET);
    assert.equal(connectUnix(fd, `${udsPath}_seqpacket`), 0, "connecting to the device");
    const messages = new HostMessages(fd);
    await messages.send(Buffer.from(`CONNECT ${port}`));
    return messages;
  }

  /** Listens where connections of the guest to `port` arrive. `accept` takes one of them, and listens no more. */
  static listen(udsPath: string, port: number): { accept(): Promise<HostMessages>; close(): void } {
    const listener = listenUnix(`${udsPath}_${port}`, { type: SOCK_SEQPACKET });
    return {
      async accept() {
        const fd = await ready("a connection of the guest", () => {
          const accepted = acceptUnix(listener);
          return accepted < 0 ? undefined : accepted;
        });
        return new HostMessages(fd);
      },
      close: () => closeSync(listener),
    };
  }

  async send(message: Buffer): Promise<void> {
    const sent = await ready(`room for a message of ${message.length} bytes`, () => {
      const result = this.#end.write(message);
      return result === -errno.EAGAIN ? undefined : result;
    });
    assert.equal(sent, message.length, "what the host's socket took");
  }

  /** The next message, empty at the end. */
  async receive(): Promise<Buffer> {
    const message = await ready("a message or the end", () => {
      const found = this.#end.read();
      return found === -errno.EAGAIN ? undefined : found;
    });
    assert.ok(message instanceof Buffer, `reading failed: errno ${message}`);
    return message;
  }

  async receiveAll(): Promise<Buffer[]> {
    const messages: Buffer[] = [];
    for (let next = await this.receive(); next.length > 0; next = await this.receive()) messages.push(next);
    return messages;
  }

  endWriting(): void {
    this.#end.endWriting();
  }

  close(): void {
    this.#end.close();
  }
}
