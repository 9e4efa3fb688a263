/**
 * Folds the long stretches of a chronicle: hundreds of questions and mappings say no more than three of them. Pure.
 */
import type { Note } from "./chronicle.js";

/** Of each kind in one stretch, so many are told in full. */
const TOLD_IN_FULL = 2;

/** @param kept stays, whatever stands around it */
export function foldNotes(notes: readonly Note[], kept: Note | undefined): Note[] {
  const result: Note[] = [];
  for (let at = 0; at < notes.length; ) {
    let end = at;
    while (end < notes.length && notes[end].mark === "iotlb") end++;
    if (end === at) {
      result.push(notes[at++]);
      continue;
    }
    result.push(...foldStretch(notes.slice(at, end), kept));
    at = end;
  }
  return result;
}

function foldStretch(stretch: readonly Note[], kept: Note | undefined): Note[] {
  const seen = new Map<string, number>();
  const folded = new Map<string, number>();
  const told = stretch.filter((note) => {
    const name = nameOf(note);
    const count = (seen.get(name) ?? 0) + 1;
    seen.set(name, count);
    if (count <= TOLD_IN_FULL || note === kept) return true;
    folded.set(name, (folded.get(name) ?? 0) + 1);
    return false;
  });
  if (folded.size === 0) return told;
  const counts = [...folded].map(([name, count]) => `${count} more ${count === 1 ? name : plural(name)}`);
  return [...told, { actor: "vmm", kind: "message", text: `… ${counts.join(", ")}` }];
}

/** "UPDATE", "INVALIDATE", "MISS": what stands in the text. */
function nameOf({ text }: Note): string {
  return /\b(UPDATE|INVALIDATE|MISS)\b/.exec(text)?.[0] ?? "message";
}

const plural = (name: string): string => (name.endsWith("S") ? `${name}es` : `${name}s`);
