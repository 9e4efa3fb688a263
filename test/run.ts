/**
 * `npm test`: one run of node's test runner over every compiled test file. The VM tests take part where their guests
 * are prepared; in CI (CI=true) they must be, and a skipped test is a failure. Must not know what any test does.
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { run } from "node:test";
import { spec, tap } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { root, whatIsMissing } from "./vm/paths.js";

const buildFolder = join(dirname(fileURLToPath(import.meta.url)), "..");
const vmFolder = join(buildFolder, "test/vm");
const inCi = process.env.CI === "true";

/** Compiled tests whose source is still there: the compiler never removes what it once wrote. */
function testFiles(): string[] {
  return ["src", "test"]
    .flatMap((folder) =>
      readdirSync(join(buildFolder, folder), { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".test.js"))
        .map((name) => join(buildFolder, folder, name)),
    )
    .filter((file) => existsSync(join(root, relative(buildFolder, file).replace(/\.js$/, ".ts"))))
    .sort();
}

function chooseFiles(): string[] {
  const all = testFiles();
  const withGuests = all.filter((file) => file.startsWith(vmFolder));
  const others = all.filter((file) => !file.startsWith(vmFolder));
  const missing = whatIsMissing();
  if (missing === undefined) return [...others, ...withGuests];
  console.log(`The tests with real guests are left out: ${missing}. "npm run setup:vm" prepares them.`);
  if (inCi) {
    console.error("In CI (CI=true) they are required.");
    process.exit(1);
  }
  return others;
}

function runTests(files: string[]): void {
  let skipped = 0;
  // True: one process fewer than there are processors. The guests are one file, so they never share a machine.
  const events = run({ files, concurrency: true });
  events.on("test:fail", () => {
    process.exitCode = 1;
  });
  events.on("test:pass", ({ skip }) => {
    if (skip !== undefined) skipped++;
  });
  events.on("end", () => {
    if (!inCi || skipped === 0) return;
    process.on("exit", () => console.error(`${skipped} tests were skipped: in CI that is a failure.`));
    process.exitCode = 1;
  });
  // The same choice as that of `node --test`: for people on a terminal, else for programs.
  if (process.stdout.isTTY) events.compose(new spec()).pipe(process.stdout);
  else events.compose(tap).pipe(process.stdout);
}

runTests(chooseFiles());
