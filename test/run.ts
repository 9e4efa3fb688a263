/**
 * `npm test`: one run of node's test runner over every compiled test file. Tests that need guests or other people's
 * programs take part where those are prepared; in CI (CI=true) they must be, and a skipped test is a failure. Must not
 * know what any test does.
 */
import { existsSync, readdirSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { run } from "node:test";
import { spec, tap } from "node:test/reporters";
import { fileURLToPath } from "node:url";
import { whatPeerIsMissing } from "./peers/paths.js";
import { whatToolIsMissing } from "./tools/paths.js";
import { root, whatIsMissing } from "./vm/paths.js";

const buildFolder = join(dirname(fileURLToPath(import.meta.url)), "..");
const inCi = process.env.CI === "true";

/** Tests that need something which has to be prepared. */
const demanding = [
  {
    folder: join(buildFolder, "test/vm"),
    what: "tests with real guests",
    missing: whatIsMissing(),
    setup: "npm run setup:vm",
  },
  {
    folder: join(buildFolder, "test/peers"),
    what: "tests with other people's devices",
    missing: whatPeerIsMissing(),
    setup: "npm run setup:peers",
  },
  {
    folder: join(buildFolder, "test/tools"),
    what: "tests with tshark",
    missing: whatToolIsMissing(),
    setup: "npm run setup:vm",
  },
] as const;

/** Compiled tests whose source is still there: the compiler never removes what it once wrote. */
function testFiles(): string[] {
  return ["src", "test", "bench"]
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
  const isDemanding = (file: string): boolean => demanding.some(({ folder }) => file.startsWith(folder));
  const files = all.filter((file) => !isDemanding(file));
  for (const { folder, what, missing, setup } of demanding) {
    if (missing === undefined) files.push(...all.filter((file) => file.startsWith(folder)));
    else console.log(`The ${what} are left out: ${missing}. "${setup}" prepares them.`);
  }
  if (inCi && demanding.some(({ missing }) => missing !== undefined)) {
    console.error("In CI (CI=true) they are required.");
    process.exit(1);
  }
  return files;
}

function runTests(files: string[]): void {
  let skipped = 0;
  // True: one process fewer than there are processors. On the two of CI that is one file at a time.
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
