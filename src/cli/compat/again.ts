/**
 * The command that gives the same result again: the question without the ways in which it was answered. Must not know
 * how a shell quotes.
 */
import type { CompareRequest, ExplainRequest, MatrixRequest } from "./request.js";

export function againCommand(request: MatrixRequest | ExplainRequest | CompareRequest): string[] {
  const options = request.choices.flatMap(([option, { word }]) => [`--${option}`, word]);
  return ["bit33", "compat", ...question(request), ...options];
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
