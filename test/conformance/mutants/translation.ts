/** Faults of the IOTLB. */
import type { Mutant } from "./mutant.js";

const IOTLB = "memory/iotlb.js";
const SPACE = "memory/iotlb-space.js";
const MESSAGES = "vhost/iotlb-messages.js";

export const TRANSLATION_MUTANTS: readonly Mutant[] = [
  {
    name: "invalidate-ignored",
    fault: "answers INVALIDATE with success and keeps the mapping",
    file: MESSAGES,
    find: "session.link.iotlb.invalidate(iova, size);",
    replace: "",
    cases: ["translation.invalidate", "translation.invalidate-receive"],
  },
  {
    name: "invalidate-from-the-start-only",
    fault: "keeps a mapping of which an INVALIDATE names a page other than the first",
    file: IOTLB,
    find: "const from = this.table.firstEndingAfter(pageOf(iova), offsetOf(iova));",
    replace:
      "let from = this.table.firstEndingAfter(pageOf(iova), offsetOf(iova));\n        while (from < this.table.count && this.table.startPage[from] < pageOf(iova))\n            from++;",
    cases: ["translation.invalidate-a-part"],
  },
  {
    name: "stale-rings",
    fault: "does not look up the pages of a ring again after an INVALIDATE",
    file: IOTLB,
    find: "this.table.removeBlock(from, to);\n        this.generation++;",
    replace: "this.table.removeBlock(from, to);",
    cases: ["translation.invalidated-ring-untouched"],
  },
  {
    name: "permission-unchecked",
    fault: "does not look at the permission of a mapping",
    file: SPACE,
    find: "if (position >= 0 && (table.permission[position] & access) === access) {",
    replace: "if (position >= 0) {",
    cases: ["translation.read-only", "translation.write-only"],
  },
  {
    name: "iotlb-unanswered",
    fault: "answers an IOTLB message only if need_reply is set",
    file: "vhost/wire/messages.js",
    find: 'if (record?.replies === "always")',
    replace: 'if (record?.replies === "always" && (needReply || record.name !== "IOTLB_MSG"))',
    cases: ["translation.reply"],
  },
  {
    name: "update-unchecked",
    fault: "answers an UPDATE that leads outside of memory with success",
    file: MESSAGES,
    find: "if (error instanceof MemoryError)\n            return refused(error.message);",
    replace: "if (error instanceof MemoryError)\n            return replyU64(0n);",
    cases: ["translation.update-outside-memory"],
  },
  {
    name: "wrap-at-the-top",
    fault: "goes on at 0 where a buffer passes 2^64",
    file: SPACE,
    find: "if (high === HIGHEST && low + length > TWO_TO_32) {",
    replace: "if (low > TWO_TO_32) {",
    cases: ["translation.wrapping-buffer"],
  },
  {
    name: "top-of-space",
    fault: "refuses a mapping that ends with the very last byte of the space",
    file: IOTLB,
    find: "iova + size > TWO_TO_64",
    replace: "iova + size >= TWO_TO_64",
    cases: ["translation.top-of-space"],
  },
  {
    name: "iotlb-full",
    fault: "has no room for another mapping once its table is full",
    file: IOTLB,
    find: "this.#makeRoom(pieces.length);",
    replace:
      'if (this.table.count + pieces.length > this.capacity)\n            throw new MemoryError("no-room", where());',
    cases: ["translation.many-pages"],
  },
  {
    name: "contiguous",
    fault: "takes the pages of a buffer to lie behind one another where its first page does",
    file: SPACE,
    find: "if (begin + length <= table.bytes[position]) {",
    replace: "if (begin < table.bytes[position]) {",
    cases: ["translation.scattered"],
  },
  {
    name: "waits-for-ever",
    fault: "does not try a ring again when the mapping comes that it has asked for",
    file: MESSAGES,
    find: "session.memoryCame();",
    replace: "",
    cases: ["translation.held-miss"],
  },
];
