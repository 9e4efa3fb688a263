import assert from "node:assert/strict";
import { test } from "node:test";
import type { Note } from "./chronicle.js";
import { foldNotes } from "./fold.js";

const iotlb = (text: string): Note => ({ actor: "vmm", kind: "message", text, mark: "iotlb" });
const other = (text: string): Note => ({ actor: "guest", kind: "data", text });
const texts = (notes: readonly Note[]): string[] => notes.map(({ text }) => text);

test("of a long stretch two of each kind are told, and the others are counted", () => {
  const stretch = Array.from({ length: 6 }, (_, i) => [
    iotlb(`asks: MISS ${i}`),
    iotlb(`UPDATE ${i}`),
  ]).flat();
  assert.deepEqual(
    texts(foldNotes([other("before"), ...stretch, iotlb("INVALIDATE 0"), other("after")], undefined)),
    [
      "before",
      "asks: MISS 0",
      "UPDATE 0",
      "asks: MISS 1",
      "UPDATE 1",
      "INVALIDATE 0",
      "… 4 more MISSes, 4 more UPDATEs",
      "after",
    ],
  );
});

test("a short stretch stays as it is, and each stretch counts for itself", () => {
  const notes = [
    iotlb("UPDATE 0"),
    iotlb("UPDATE 1"),
    other("x"),
    iotlb("UPDATE 2"),
    iotlb("UPDATE 3"),
    iotlb("UPDATE 4"),
  ];
  assert.deepEqual(texts(foldNotes(notes, undefined)), [
    "UPDATE 0",
    "UPDATE 1",
    "x",
    "UPDATE 2",
    "UPDATE 3",
    "… 1 more UPDATE",
  ]);
});

test("the note that is to be kept stands where it stood", () => {
  const notes = Array.from({ length: 5 }, (_, i) => iotlb(`MISS ${i}`));
  assert.deepEqual(texts(foldNotes(notes, notes[3])), ["MISS 0", "MISS 1", "MISS 3", "… 2 more MISSes"]);
});
