/**
 * One seqpacket socket of the guest, with Linux's rules: what the application sends at once is one message, whatever
 * packets it takes, and arrives as one. Its driver treats it as any other (`connection.ts`).
 */
import { MessageEnd, SocketType } from "../vsock/header.js";
import { GuestConnection, GuestSocketError } from "./connection.js";

export interface GuestMessage {
  readonly bytes: Uint8Array;
  /** The sender had set MSG_EOR. */
  readonly endOfRecord: boolean;
}

export class GuestSeqpacketConnection extends GuestConnection {
  override readonly type = SocketType.SEQPACKET;
  /** Packets of a message whose end has not come. */
  #parts: Uint8Array[] = [];
  /** Of each message that was not read: whether it ends a record. */
  readonly #ends: boolean[] = [];

  /** Sends a message, which may be empty (Linux sends none that is). */
  override write(bytes: Uint8Array, endOfRecord = false): Promise<void> {
    const { peerBufAlloc } = this.credit;
    if (bytes.length > peerBufAlloc) {
      const message = `a message of ${bytes.length} bytes, and port ${this.peerPort} has a buffer of ${peerBufAlloc}`;
      return Promise.reject(new GuestSocketError("EMSGSIZE", message));
    }
    return this.queueWrite(bytes, endOfRecord ? MessageEnd.EOM | MessageEnd.EOR : MessageEnd.EOM);
  }

  /** The next message, or undefined if none will come. `read` gives its bytes alone: use one of the two. */
  async readMessage(): Promise<GuestMessage | undefined> {
    const bytes = await this.read();
    if (bytes === undefined) return undefined;
    return { bytes, endOfRecord: this.#ends.shift() ?? false };
  }

  protected override assemble(payload: Uint8Array, flags: number): Uint8Array | undefined {
    this.#parts.push(payload);
    if ((flags & MessageEnd.EOM) === 0) return undefined;
    const message = this.#parts.length === 1 ? payload : Buffer.concat(this.#parts);
    this.#parts = [];
    this.#ends.push((flags & MessageEnd.EOR) !== 0);
    return message;
  }
}
