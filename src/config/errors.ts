/**
 * What the operator can get wrong, as errors that name the place and say what to do about it.
 * Owns the root class and the two kinds that this side of the program raises: a configuration that cannot
 * work, and a start that the machine does not allow. Must not know how an error is printed; the command line
 * prints `bit33: <line>` and ends with status 2.
 */

/** Somebody who runs the program has to change something. Never thrown for what a guest or a VMM does. */
export abstract class OperatorError extends Error {
  /** Stable, for programs. */
  abstract readonly code: string;
  /** An option, `file:line:column`, a path or a library field; empty if the message stands alone. */
  abstract readonly where: string;

  /** Place and message together, as one would print them. */
  get line(): string {
    return this.where === "" ? this.message : `${this.where}: ${this.message}`;
  }
}

export type ConfigErrorCode =
  /** A value that is not of its kind: not a number, not one of the choices, not a file mode. */
  | "value-malformed"
  /** A number outside what the key allows. */
  | "value-out-of-range"
  | "value-missing"
  | "cid-reserved"
  | "cid-twice"
  | "path-twice"
  /** A socket lies where a guest's connections to some port would go. */
  | "path-reachable-by-guest"
  | "path-too-long"
  | "directory-missing"
  | "group-unknown"
  | "user-unknown"
  | "key-unknown"
  | "key-twice"
  | "key-missing"
  /** `forward-cid` and `forward-listen`, which bit33 knows and does not do. */
  | "forwarding-refused"
  /** `--fd` together with something that it excludes. */
  | "fd-conflict"
  | "fd-unusable"
  /** The service manager passes a socket by a name that means nothing, or one too many. */
  | "socket-name-unknown"
  | "file-unreadable"
  | "file-unwritable"
  /** Two profiles of one kind and name, which could not be told apart. */
  | "profile-twice"
  | "yaml-syntax"
  /** Valid YAML of another shape: not a list of VMs, not a profile. */
  | "file-shape"
  /** Two values that exclude each other. */
  | "value-conflict"
  /** A VM that would be a sibling of VMs which run apart from each other, or in a process that takes none in. */
  | "siblings-apart"
  /** A CID that none of the VMs served has. */
  | "vm-unknown"
  /** A name that no feature bit bears. */
  | "feature-unknown"
  /** A name that no built-in profile bears. */
  | "profile-unknown"
  /** A profile of a VMM where one of a device was asked for, and the like. */
  | "profile-kind";

/** The configuration cannot work. Found before anything is opened or bound. */
export class ConfigError extends OperatorError {
  override readonly name = "ConfigError";

  constructor(
    override readonly code: ConfigErrorCode,
    override readonly where: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export type StartErrorCode =
  /** Another process listens on that path. A stale socket file is no error: it is replaced. */
  | "path-in-use"
  /** Something that is not a socket has that name. */
  | "path-not-a-socket"
  | "bind-failed"
  /** The process may not become the user that it was told to. */
  | "user-not-changed"
  /** The kernel has no Landlock. */
  | "confinement-missing"
  /** Nobody serves on a control socket. */
  | "control-unreachable"
  /** `--fd` is a socket, but not one that can carry vhost-user. */
  | "fd-unusable";

/** The configuration is fine, but the machine says no. Raised by the device's start code. */
export class StartError extends OperatorError {
  override readonly name = "StartError";

  constructor(
    override readonly code: StartErrorCode,
    override readonly where: string,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}
