/**
 * What both programs do on bare sockets: everything at the host, and the floor's half at the guest. Each function runs
 * to its end and returns what it counted.
 */
import { closeSync } from "node:fs";
import { EPOLLET, EPOLLIN, EPOLLOUT, Epoll } from "../src/linux/epoll.js";
import { errno, SystemCallError } from "../src/linux/errors.js";
import { acceptUnix, connectUnix, createSocket, listenUnix, sendText } from "../src/linux/unix-socket.js";
import {
  acceptBlocking,
  connectBlocking,
  payload,
  READ_BYTES,
  readBytes,
  writeAll,
  writeBytes,
} from "./bare-socket.js";
import type { Outcome, Sending } from "./commands.js";
import { monotonicNs, type Progress } from "./progress.js";

const LOOK_MS = 20;
const LONGEST_ANSWER_BYTES = 64;

/** Sockets that live until `hangUp`. */
export class BareSockets {
  readonly #fds: number[] = [];
  #listener = -1;

  listen(path: string): void {
    this.#listener = this.#keep(listenUnix(path));
  }

  hangUp(): void {
    for (const fd of this.#fds.splice(0)) closeSync(fd);
    this.#listener = -1;
  }

  #keep(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  /** Reads so many connections until all is there. */
  receive(connections: number, snapshotMs: number, progress: Progress): Outcome {
    return connections === 1
      ? this.#receiveOne(progress)
      : this.#receiveMany(connections, snapshotMs, progress);
  }

  #receiveOne(progress: Progress): Outcome {
    const fd = this.#keep(acceptBlocking(this.#listener, LOOK_MS));
    let total = 0;
    let endedNs = 0;
    // The shared page is looked at when nothing comes, and when it is over: a read that blocks costs 20 ms at most.
    while (!progress.isOver || total < progress.totalBytes) {
      const bytes = readBytes(fd);
      if (bytes > 0) {
        total += bytes;
        endedNs = monotonicNs();
      } else if (bytes === 0) break;
      else if (bytes !== -errno.EAGAIN && bytes !== -errno.EINTR)
        throw new SystemCallError("read", -bytes, "");
    }
    return { beganNs: 0, endedNs, count: total };
  }

  #receiveMany(connections: number, snapshotMs: number, progress: Progress): Outcome {
    const epoll = new Epoll();
    const fds: number[] = [];
    for (let i = 0; i < connections; i++) {
      const fd = this.#keep(acceptBlocking(this.#listener));
      fds.push(fd);
      epoll.add(fd, EPOLLIN, i);
    }
    const counts = new Array<number>(connections).fill(0);
    let perConnection: number[] = [];
    let total = 0;
    let endedNs = 0;
    let snapshotNs = 0;
    while (!progress.isOver || total < progress.totalBytes) {
      const ready = epoll.wait(LOOK_MS);
      for (let index = 0; index < ready; index++) {
        const who = epoll.token(index);
        const bytes = readBytes(fds[who]);
        if (bytes <= 0) throw new Error(`connection ${who} ended with ${bytes}`);
        counts[who] += bytes;
        total += bytes;
      }
      if (ready === 0) continue;
      endedNs = monotonicNs();
      if (snapshotNs === 0) snapshotNs = endedNs + snapshotMs * 1e6;
      else if (endedNs >= snapshotNs && perConnection.length === 0) perConnection = [...counts];
    }
    epoll.close();
    return {
      beganNs: 0,
      endedNs,
      count: total,
      perConnection: perConnection.length > 0 ? perConnection : counts,
    };
  }

  /** Takes the connection that `listen` waits for and reads it until all is there. */
  sink(progress: Progress): Outcome {
    return this.#receiveOne(progress);
  }

  /** Writes to one connection, over the hybrid handshake if a guest port is given. */
  sendTo(
    path: string,
    port: number | undefined,
    { messageBytes, durationMs }: Sending,
    progress: Progress,
  ): Outcome {
    const fd = this.#keep(connectBlocking(path));
    if (port !== undefined) this.#shakeHands(fd, port);
    let total = 0;
    const beganNs = monotonicNs();
    const endNs = beganNs + durationMs * 1e6;
    while (monotonicNs() < endNs) {
      writeAll(fd, messageBytes);
      total += messageBytes;
    }
    progress.end(total);
    return { beganNs, endedNs: monotonicNs(), count: total };
  }

  #shakeHands(fd: number, port: number): void {
    sendText(fd, `CONNECT ${port}\n`);
    const bytes = readBytes(fd, LONGEST_ANSWER_BYTES);
    const answer = Buffer.from(payload.bytes.subarray(0, Math.max(0, bytes))).toString("latin1");
    if (!/^OK \d+\n$/.test(answer))
      throw new Error(`the device answered ${JSON.stringify(answer)} (${bytes})`);
  }

  /** The floor of `connections` at once: writes to each in turn, as far as it takes them. */
  sendToMany(
    path: string,
    connections: number,
    { messageBytes, durationMs }: Sending,
    progress: Progress,
  ): Outcome {
    if (connections === 1) return this.sendTo(path, undefined, { messageBytes, durationMs }, progress);
    const epoll = new Epoll();
    const fds: number[] = [];
    for (let i = 0; i < connections; i++) {
      const fd = this.#keep(createSocket());
      for (let result = -errno.EAGAIN; result !== 0; ) {
        result = connectUnix(fd, path);
        if (result !== 0 && result !== -errno.EAGAIN) throw new SystemCallError("connect", -result, path);
      }
      fds.push(fd);
      epoll.add(fd, EPOLLOUT | EPOLLET, i);
    }
    const left = new Array<number>(connections).fill(0);
    let ready = fds.map((_, i) => i);
    let total = 0;
    const beganNs = monotonicNs();
    const endNs = beganNs + durationMs * 1e6;
    while (monotonicNs() < endNs) {
      const next: number[] = [];
      for (const who of ready) {
        if (left[who] === 0) left[who] = messageBytes;
        const bytes = writeBytes(fds[who], left[who]);
        if (bytes < 0) {
          if (bytes !== -errno.EAGAIN) throw new SystemCallError("write", -bytes, "");
          continue;
        }
        left[who] -= bytes;
        total += bytes;
        next.push(who);
      }
      const woken = epoll.wait(next.length > 0 ? 0 : LOOK_MS);
      const known = new Set(next);
      for (let index = 0; index < woken; index++) known.add(epoll.token(index));
      ready = known.size > next.length ? [...known] : next;
    }
    progress.end(total);
    epoll.close();
    return { beganNs, endedNs: monotonicNs(), count: total };
  }

  ping(path: string, { messageBytes, durationMs }: Sending): Outcome {
    const fd = this.#keep(connectBlocking(path));
    const latenciesUs: number[] = [];
    const beganNs = monotonicNs();
    const endNs = beganNs + durationMs * 1e6;
    let nowNs = beganNs;
    while (nowNs < endNs) {
      const sentNs = monotonicNs();
      writeAll(fd, messageBytes);
      for (let missing = messageBytes; missing > 0; ) {
        const bytes = readBytes(fd);
        if (bytes <= 0) throw new SystemCallError("read", -bytes, "");
        missing -= bytes;
      }
      nowNs = monotonicNs();
      latenciesUs.push((nowNs - sentNs) / 1000);
    }
    return { beganNs, endedNs: nowNs, count: latenciesUs.length, latenciesUs };
  }

  /** Sends back what comes, until it ends. */
  echo(): Outcome {
    const fd = this.#keep(acceptBlocking(this.#listener));
    let total = 0;
    for (;;) {
      const bytes = readBytes(fd, READ_BYTES);
      if (bytes <= 0) return { beganNs: 0, endedNs: 0, count: total };
      writeAll(fd, bytes);
      total += bytes;
    }
  }

  /** Takes connections and closes each when its other side has, until it is over. */
  accept(progress: Progress): Outcome {
    const epoll = new Epoll();
    const listener = this.#listener;
    epoll.add(listener, EPOLLIN, listener);
    const open = new Set<number>();
    let count = 0;
    while (!progress.isOver) {
      const ready = epoll.wait(LOOK_MS);
      for (let index = 0; index < ready; index++) {
        const fd = epoll.token(index);
        if (fd === listener) {
          for (let got = acceptUnix(listener); got >= 0; got = acceptUnix(listener)) {
            open.add(got);
            epoll.add(got, EPOLLIN, got);
            count++;
          }
        } else if (readBytes(fd) !== -errno.EAGAIN) {
          open.delete(fd);
          closeSync(fd);
        }
      }
    }
    for (const fd of open) closeSync(fd);
    epoll.close();
    return { beganNs: 0, endedNs: monotonicNs(), count };
  }

  /** Opens connections to a guest port and closes each as soon as the device says OK. */
  open(path: string, port: number, atATime: number, durationMs: number): Outcome {
    const epoll = new Epoll();
    let active = 0;
    let count = 0;
    const begin = (): void => {
      const fd = createSocket();
      for (let result = -errno.EAGAIN; result !== 0; ) {
        result = connectUnix(fd, path);
        if (result !== 0 && result !== -errno.EAGAIN) throw new SystemCallError("connect", -result, path);
      }
      sendText(fd, `CONNECT ${port}\n`);
      epoll.add(fd, EPOLLIN, fd);
      active++;
    };
    const beganNs = monotonicNs();
    const endNs = beganNs + durationMs * 1e6;
    for (let i = 0; i < atATime; i++) begin();
    while (active > 0) {
      const ready = epoll.wait(5000);
      if (ready === 0) throw new Error(`${active} connections wait for OK in vain`);
      for (let index = 0; index < ready; index++) {
        const fd = epoll.token(index);
        const bytes = readBytes(fd, LONGEST_ANSWER_BYTES);
        closeSync(fd);
        if (bytes <= 0) throw new Error(`a connection was refused (${bytes})`);
        active--;
        count++;
        if (monotonicNs() < endNs) begin();
      }
    }
    epoll.close();
    return { beganNs, endedNs: monotonicNs(), count };
  }
}
