#!/usr/bin/env node
/**
 * The program's entry: finds the command, runs it, exits with its status. One file a command; each is loaded
 * only when it is called. Must not know any command's options.
 */

import { didYouMean } from "../config/suggest.js";
import { EXIT_FAILURE, EXIT_OK, lostOutput, processTerminal, reportFailure } from "./terminal.js";
import { UsageError } from "./usage-error.js";
import { packageVersion } from "./version.js";

interface Command {
  readonly summary: string;
  run(argv: string[]): Promise<number>;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  serve: {
    summary: "serve the vsock device of one or several VMs",
    run: async (argv) => (await import("./serve.js")).serveCommand(argv),
  },
  connect: {
    summary: "join standard input and output with a port of a guest",
    run: async (argv) => (await import("./connect.js")).connectCommand(argv),
  },
  ctl: {
    summary: "ask a running serve about its VMs, add one, or remove one",
    run: async (argv) => (await import("./ctl.js")).ctlCommand(argv),
  },
  demo: {
    summary: "move data between a device and a built-in guest, and say what was negotiated",
    run: async (argv) => (await import("./demo.js")).demoCommand(argv),
  },
  compat: {
    summary: "run the matrix of guests, VMMs and vsock devices, and explain it",
    run: async (argv) => (await import("./compat.js")).compatCommand(argv),
  },
  observe: {
    summary: "play back-ends to a real VMM and write its profile from what it does",
    run: async (argv) => (await import("./observe.js")).observeCommand(argv),
  },
  conform: {
    summary: "try a vhost-user-vsock back-end against the rules, case by case",
    run: async (argv) => (await import("./conform.js")).conformCommand(argv),
  },
  inspect: {
    summary: "stand between a front-end and a back-end, show what they say, and say what is wrong",
    run: async (argv) => (await import("./inspect.js")).inspectCommand(argv),
  },
  features: {
    summary: "decode a feature word: what each bit means to guest, vhost and vhost-user",
    run: async (argv) => (await import("./features.js")).featuresCommand(argv),
  },
};

async function main(argv: string[]): Promise<number> {
  const [first, ...rest] = argv;
  switch (first) {
    case "--help":
    case "-h":
    case "help": {
      const { programHelp } = await import("./help.js");
      processTerminal.print(programHelp(COMMANDS));
      return EXIT_OK;
    }
    case "--version":
    case "-V":
      processTerminal.print(`bit33 ${packageVersion()}`);
      return EXIT_OK;
    case undefined:
      throw new UsageError("command-unknown", "no command is given; bit33 --help lists them");
  }
  if (Object.hasOwn(COMMANDS, first)) return COMMANDS[first].run(rest);
  // Management software calls a vhost-user back-end with options alone: --fd=3, --print-capabilities.
  if (first.startsWith("-")) return COMMANDS.serve.run(argv);
  const hint = didYouMean(first, Object.keys(COMMANDS)) || "; bit33 --help lists the commands";
  throw new UsageError("command-unknown", `unknown command ${JSON.stringify(first)}${hint}`);
}

const status = await main(process.argv.slice(2)).catch((error) => reportFailure(error, processTerminal));
const lost = lostOutput();
if (lost !== undefined)
  processTerminal.complain(`bit33: standard output takes no more (${lost}); a part is missing`);
// Not process.exitCode: a daemon that was asked to end does end, whatever may still be open.
process.exit(status === EXIT_OK && lost !== undefined ? EXIT_FAILURE : status);
