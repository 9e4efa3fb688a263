/**
 * One seqpacket connection: a connection whose host socket keeps message boundaries (SOCK_SEQPACKET). What it adds to
 * `connection.ts`: parts of messages become messages, the window is what one message may be, and reading goes by whole
 * messages (`message-pump.ts`).
 *
 * virtio 1.4, 5.10.6.5: a message is one or more RW packets, the last of which has EOM. EOR, which a sender may set on
 * that one, ends here: Unix sockets do not carry it (unix_dgram_recvmsg never sets MSG_EOR).
 *
 * The promise: a message reaches the host program whole, or the connection is reset.
 */
import { IovecList } from "../linux/iovec.js";
import { allowMessages, END_OF_MESSAGES, longestMessage, peekMessage } from "../linux/seqpacket.js";
import type { SegmentList } from "../memory/segments.js";
import { Connection } from "./connection.js";
import { gather } from "./gather.js";
import { HEADER_BYTES, Shutdown, SocketType } from "./header.js";
import { HostMessageSocket, TOO_MANY_MESSAGES } from "./host-message-socket.js";
import type { HostSide } from "./host-socket.js";

// Shared by all connections of the thread: filled and used within one call.
const part = new IovecList();

export class SeqpacketConnection extends Connection {
  override readonly readsStream = false;
  override readonly type = SocketType.SEQPACKET;

  /**
   * A guest may send a message as long as `buf_alloc` (Linux refuses longer ones with EMSGSIZE), so that is made to be
   * what one sendmsg accepts, before the guest hears of it.
   */
  protected override openHost(fd: number, watched?: number): HostSide | number {
    const { limits, loop } = this.owner;
    const { bufAlloc } = this.receiveCredit;
    if (limits.widensSockets) allowMessages(fd, bufAlloc);
    const most = longestMessage(fd);
    if (most < bufAlloc) {
      this.receiveCredit.shrink(most);
      this.owner.bufferReturned(bufAlloc - most);
    }
    return HostMessageSocket.open(loop, fd, this, this.receiveCredit, watched);
  }

  /** Takes the payload of one packet; with `endsMessage` it is the last of its message. */
  takePart(packet: SegmentList, payloadBytes: number, endsMessage: boolean): void {
    let done = 0;
    do {
      part.clear();
      done += gather(packet, HEADER_BYTES + done, payloadBytes - done, part);
      const result = this.host?.write(part, endsMessage && done === payloadBytes) ?? 0;
      if (result === TOO_MANY_MESSAGES) {
        this.abort("more empty messages wait for the host program than can be kept", "violation");
        return;
      }
      if (result < 0) {
        this.hostRefuses(result);
        return;
      }
    } while (done < payloadBytes);
    this.tellCredit();
  }

  override guestShutsDown(flags: number): void {
    const isPart = this.host instanceof HostMessageSocket && this.host.partBytes > 0;
    if (isPart && (flags & Shutdown.SEND) !== 0)
      this.abort("the guest ended its direction within a message", "violation");
    else super.guestShutsDown(flags);
  }

  /** An empty message counts as something that waits. */
  protected override peekHost(): number {
    const found = peekMessage(this.fd);
    if (found === END_OF_MESSAGES) return 0;
    return found >= 0 ? 1 : found;
  }
}
