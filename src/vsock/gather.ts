/**
 * From a packet's segments in host memory to the entries of a readv or writev. Hot path: allocates nothing.
 */
import type { IovecList } from "../linux/iovec.js";
import type { SegmentList } from "../memory/segments.js";

/**
 * Appends up to `bytes` bytes of `segments`, from byte `from` on, to `iovecs`: returns how many, fewer only when
 * `iovecs` is full. The caller has checked that the segments hold them.
 */
export function gather(segments: SegmentList, from: number, bytes: number, iovecs: IovecList): number {
  let skip = from;
  let left = bytes;
  for (let index = 0; left > 0 && !iovecs.isFull; index++) {
    const length = segments.length[index];
    if (skip >= length) {
      skip -= length;
      continue;
    }
    const piece = Math.min(length - skip, left);
    iovecs.push(segments.address[index] + skip, piece);
    left -= piece;
    skip = 0;
  }
  return bytes - left;
}
