/**
 * Lines out of a stream that somebody writes who is not trusted: each is cut at a length, and no more than that is kept of
 * one that does not end. Must not know what becomes of them.
 */
import { StringDecoder } from "node:string_decoder";

export class SaidLines {
  readonly #decoder = new StringDecoder("utf8");
  #line = "";

  constructor(
    private readonly longest: number,
    private readonly take: (line: string) => void,
  ) {}

  write(bytes: Buffer): void {
    const pieces = this.#decoder.write(bytes).split("\n");
    for (const [index, piece] of pieces.entries()) {
      if (index > 0) this.#finish();
      this.#line += piece.slice(0, this.longest - this.#line.length);
    }
  }

  /** Nothing more comes: what has no end of line is a line, too. */
  end(): void {
    if (this.#line !== "") this.#finish();
  }

  #finish(): void {
    this.take(this.#line);
    this.#line = "";
  }
}
