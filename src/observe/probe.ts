/**
 * The device behind the scripted back-end: the least that makes a guest use its rings. It puts one connection request
 * into the receive ring, to a port where hardly anybody listens, and takes what the guest sends; a driver has to answer
 * with a reset, whatever runs in the guest. So buffers are mapped and unmapped without a program in there.
 * Must not know the session or its messages.
 */
import { EPOLLET, EPOLLIN } from "../linux/epoll.js";
import type { EventLoop } from "../linux/event-loop.js";
import { Outcome } from "../memory/address.js";
import type { SegmentList } from "../memory/segments.js";
import type { BackendDevice, BackendQueue } from "../vhost/backend-device.js";
import { encodeVsockConfig, VSOCK_QUEUE, VSOCK_QUEUE_COUNT } from "../virtio/index.js";
import { Chain } from "../virtqueue/chain.js";
import { Pop } from "../virtqueue/device-queue.js";
import { HEADER_BYTES, HOST_CID, Op, PacketHeader, SocketType } from "../vsock/header.js";

/** Any that a guest can have. */
const GUEST_CID = 3;
/** Ephemeral by Linux's habit (net/vmw_vsock: from 1024 on, at random), so hardly listened on. */
const GUEST_PORT = 0x6b33_0021;
const HOST_PORT = 0x4b33_0021;
const CREDIT_BYTES = 65536;

interface Served {
  readonly backend: BackendQueue;
  readonly token: number;
}

export class ProbeDevice implements BackendDevice {
  readonly queueCount = VSOCK_QUEUE_COUNT;
  /** Called when the guest has got the request, and when its answer came. */
  onAsked: () => void = () => {};
  onAnswered: () => void = () => {};
  /** False where nobody here can read the rings (packed ones), or not yet. */
  mayServe = false;
  readonly #config = encodeVsockConfig(BigInt(GUEST_CID));
  readonly #served = new Map<number, Served>();
  readonly #chain = new Chain();
  readonly #header = new PacketHeader();
  readonly #bytes = new DataView(new ArrayBuffer(HEADER_BYTES));
  readonly #work = (): void => this.#serve();
  #due: "request" | "reset" | undefined = "request";
  #answered = false;

  constructor(
    private readonly loop: EventLoop,
    readonly features: bigint,
  ) {
    loop.afterEvents(this.#work);
  }

  readConfig(offset: number, size: number): Uint8Array | undefined {
    // Longer reads than the device has fields are answered with zeros behind them: a front-end may ask for all it can.
    const bytes = new Uint8Array(size);
    bytes.set(this.#config.subarray(offset, offset + size));
    return bytes;
  }

  queueStarted(backend: BackendQueue): void {
    const { kickFd } = backend;
    const token = kickFd < 0 ? -1 : this.loop.watch(kickFd, EPOLLIN | EPOLLET, { onEvents: () => {} });
    this.#served.set(backend.index, { backend, token });
    this.loop.requestTurn();
  }

  queueStopped(index: number): void {
    const served = this.#served.get(index);
    if (served === undefined) return;
    this.#served.delete(index);
    if (served.token >= 0) this.loop.unwatch(served.backend.kickFd, served.token);
  }

  memoryAvailable(): void {
    this.loop.requestTurn();
  }

  reset(): void {}

  sessionEnded(): void {
    this.loop.removeAfterEvents(this.#work);
  }

  /** After every wake-up, whatever it was for: a kick, a mapping, a message. */
  #serve(): void {
    if (!this.mayServe) return;
    const transmit = this.#served.get(VSOCK_QUEUE.tx)?.backend;
    const receive = this.#served.get(VSOCK_QUEUE.rx)?.backend;
    if (transmit !== undefined) this.#drain(transmit);
    if (receive !== undefined && this.#due !== undefined) this.#send(receive, this.#due);
  }

  /** Takes all that the guest has sent. */
  #drain(backend: BackendQueue): void {
    const { queue } = backend;
    if (queue.prepare() !== Outcome.OK) return;
    do {
      while (queue.pop(this.#chain) === Pop.CHAIN) {
        this.#take(this.#chain.readable, backend);
        queue.push(this.#chain.head, 0);
      }
      // A page that is not mapped yet: the queue goes on when the mapping has come.
    } while (queue.available() === 0 && queue.enableKicks());
    queue.publish();
    backend.notify();
  }

  #take(packet: SegmentList, { views }: BackendQueue): void {
    if (packet.totalBytes < HEADER_BYTES) return;
    eachByte(packet, HEADER_BYTES, (host, at) => {
      views.locate(host);
      this.#bytes.setUint8(at, views.data.getUint8(views.offset));
    });
    this.#header.read(this.#bytes, 0);
    const { op, dstPort } = this.#header;
    if (op !== Op.RST) this.#due ??= "reset";
    if (dstPort !== HOST_PORT || this.#answered) return;
    this.#answered = true;
    this.onAnswered();
  }

  /** Puts one packet into the guest's receive ring, once there is a buffer. */
  #send(backend: BackendQueue, what: "request" | "reset"): void {
    const { queue, views } = backend;
    if (queue.prepare() !== Outcome.OK || queue.pop(this.#chain) !== Pop.CHAIN) return;
    const { writable, head } = this.#chain;
    if (writable.totalBytes < HEADER_BYTES) {
      queue.unpop(1);
      return;
    }
    this.#write(what);
    eachByte(writable, HEADER_BYTES, (host, at) => {
      views.locate(host);
      views.data.setUint8(views.offset, this.#bytes.getUint8(at));
    });
    queue.push(head, HEADER_BYTES);
    queue.publish();
    backend.notify();
    this.#due = undefined;
    if (what === "request") this.onAsked();
  }

  /** A reset answers the packet that was taken last; others of the same burst go unanswered, as a lossy net would. */
  #write(what: "request" | "reset"): void {
    const header = this.#header;
    const [srcPort, dstPort] =
      what === "request" ? [HOST_PORT, GUEST_PORT] : [header.dstPort, header.srcPort];
    Object.assign(header, {
      srcCid: HOST_CID,
      srcCidHigh: 0,
      dstCid: GUEST_CID,
      dstCidHigh: 0,
      srcPort,
      dstPort,
      len: 0,
      type: SocketType.STREAM,
      op: what === "request" ? Op.REQUEST : Op.RST,
      flags: 0,
      bufAlloc: CREDIT_BYTES,
      fwdCnt: 0,
    });
    header.write(this.#bytes, 0);
  }
}

/** The host addresses of the first `count` bytes: a header may lie in several pieces. */
function eachByte(segments: SegmentList, count: number, visit: (host: number, at: number) => void): void {
  let at = 0;
  for (let index = 0; index < segments.count && at < count; index++) {
    const length = Math.min(segments.length[index], count - at);
    for (let within = 0; within < length; within++) visit(segments.address[index] + within, at++);
  }
}
