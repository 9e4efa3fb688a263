/**
 * The naive twin of the payload encoders: each structure written by hand, straight from its C declaration, with
 * no table. It exists so that a wrong offset in a table has something to disagree with.
 */
import type { MemRegion, Payload } from "./payload.js";

class Writer {
  readonly #bytes: number[] = [];

  int(width: 1 | 2 | 4, value: number): this {
    for (let n = 0; n < width; n++) this.#bytes.push(Math.floor(value / 256 ** n) % 256);
    return this;
  }

  long(value: bigint): this {
    for (let n = 0n; n < 8n; n++) this.#bytes.push(Number((value >> (8n * n)) & 0xffn));
    return this;
  }

  raw(bytes: Iterable<number>): this {
    this.#bytes.push(...bytes);
    return this;
  }

  /** Little-endian, as both platforms that this runs on are. */
  get done(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

function region(writer: Writer, value: MemRegion): Writer {
  writer.long(value.guestAddress).long(value.size).long(value.userAddress).long(value.mmapOffset);
  return value.xen === undefined ? writer : writer.int(4, value.xen.flags).int(4, value.xen.domid);
}

/** The bytes of a payload, without the codec's help. */
export function naiveEncode(payload: Payload): Uint8Array {
  const w = new Writer();
  switch (payload.kind) {
    case "none":
      return w.done;
    case "u64":
      return w.long(payload.value).done;
    case "vringState":
      return w.int(4, payload.index).int(4, payload.num).done;
    case "vringAddr":
      w.int(4, payload.index).int(4, payload.flags);
      return w.long(payload.desc).long(payload.used).long(payload.avail).long(payload.log).done;
    case "vringFd":
      return w
        .int(1, payload.index)
        .int(1, payload.noFd ? 1 : 0)
        .raw([0, 0, 0, 0, 0, 0]).done;
    case "memTable":
      w.int(4, payload.regions.length).int(4, 0);
      return payload.regions.reduce(region, w).done;
    case "memRegion":
      return region(w.long(0n), payload.region).done;
    case "log":
      return w.long(payload.size).long(payload.offset).done;
    case "iotlb":
      w.long(payload.iova).long(payload.size).long(payload.userAddress);
      return w.int(1, payload.perm).int(1, payload.type).raw([0, 0, 0, 0, 0, 0]).done;
    case "config":
      w.int(4, payload.offset).int(4, payload.data.length).int(4, payload.flags);
      return w.raw(payload.data).done;
    case "vringArea":
      return w.long(payload.vring).long(payload.size).long(payload.offset).done;
    case "inflight":
      w.long(payload.mmapSize).long(payload.mmapOffset);
      w.int(2, payload.queueCount).int(2, payload.queueSize);
      return payload.padded ? w.int(4, 0).done : w.done;
    case "sharedObject":
      return w.raw(payload.uuid).done;
    case "deviceState":
      return w.int(4, payload.direction).int(4, payload.phase).done;
    case "shmemConfig":
      w.int(4, payload.regionCount).int(4, 0);
      return payload.sizes.reduce((writer, size) => writer.long(size), w).done;
    case "shmemMap":
      w.int(1, payload.shmid).raw([0, 0, 0, 0, 0, 0, 0]);
      return w.long(payload.fdOffset).long(payload.shmOffset).long(payload.size).long(payload.flags).done;
    case "opaque":
      return payload.bytes;
  }
}
