/**
 * The command that gives the same result again: the question without the ways in which it was answered. Must not know
 * how a shell quotes.
 */
import { type Cell, cellName } from "../../compat/record.js";
import type { Choice } from "./choices.js";
import type { CompareRequest, ExplainRequest, MatrixRequest } from "./request.js";

export function againCommand(request: MatrixRequest | ExplainRequest | CompareRequest): string[] {
  const options = request.choices.flatMap(([option, { word }]) => [`--${option}`, word]);
  return ["bit33", "compat", ...question(request), ...options];
}

type CellNames = Pick<Cell, "guest" | "vmm" | "device">;

/** The command that tells the story of a cell of the answer: files of the user's own have to be named again. */
export function explainCommand(request: MatrixRequest | CompareRequest, cell: CellNames): string[] {
  return ["bit33", "compat", "--explain", cellName(cell), ...fileOptions(request, cell)];
}

/** The options of it that name files. */
export function fileOptions(request: MatrixRequest | CompareRequest, cell: CellNames): string[] {
  const choices = request.choices.map(([, choice]) => choice);
  const all: readonly Choice[] = request.kind === "compare" ? [...choices, request.after] : choices;
  return all
    .filter(({ word, profile }) => word !== profile.name && cell[profile.kind] === profile.name)
    .flatMap(({ word, profile }) => [`--${profile.kind}`, word]);
}

function question(request: MatrixRequest | ExplainRequest | CompareRequest): string[] {
  switch (request.kind) {
    case "matrix":
      return [];
    case "explain": {
      const { guest, vmm, device } = request.parts;
      return ["--explain", `${guest.name}/${vmm.name}/${device.name}`];
    }
    case "compare":
      return ["--before", request.before.word, "--after", request.after.word];
  }
}
