/** The child's half of `program.ts`: answers each command of the parent with its outcome. */
import type { Answer, Outcome } from "./commands.js";

export function obey<Command>(run: (command: Command) => Outcome): void {
  process.on("message", (command: Command) => {
    process.send?.(answerOf(() => run(command)));
  });
  process.on("disconnect", () => process.exit());
}

function answerOf(run: () => Outcome): Answer {
  try {
    return { ok: run() };
  } catch (error) {
    return { failed: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}
