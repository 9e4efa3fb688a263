/** For tests of captures: a naive writer of pcapng blocks in either byte order, apart from the product's. */

export interface NaiveOption {
  readonly code: number;
  readonly value: Uint8Array;
}

export class NaiveBlocks {
  readonly #parts: Buffer[] = [];

  constructor(readonly little: boolean) {}

  get bytes(): Buffer {
    return Buffer.concat(this.#parts);
  }

  section(): this {
    return this.block(0x0a0d0d0a, [this.u32(0x1a2b3c4d), this.u16(1), this.u16(0), Buffer.alloc(8, 0xff)]);
  }

  interface(linkType: number, options: readonly NaiveOption[] = []): this {
    return this.block(1, [this.u16(linkType), this.u16(0), this.u32(0), ...this.#options(options)]);
  }

  packet(from: number, units: bigint, packet: Uint8Array, options: readonly NaiveOption[] = []): this {
    return this.block(6, [
      this.u32(from),
      this.u32(Number(units >> 32n)),
      this.u32(Number(units & 0xffffffffn)),
      this.u32(packet.length),
      this.u32(packet.length),
      padded(packet),
      ...this.#options(options),
    ]);
  }

  block(type: number, body: readonly Uint8Array[]): this {
    const length = body.reduce((sum, part) => sum + part.length, 12);
    this.#parts.push(
      this.u32(type),
      this.u32(length),
      ...body.map((part) => Buffer.from(part)),
      this.u32(length),
    );
    return this;
  }

  u16(value: number): Buffer {
    const bytes = Buffer.alloc(2);
    if (this.little) bytes.writeUInt16LE(value);
    else bytes.writeUInt16BE(value);
    return bytes;
  }

  u32(value: number): Buffer {
    const bytes = Buffer.alloc(4);
    if (this.little) bytes.writeUInt32LE(value);
    else bytes.writeUInt32BE(value);
    return bytes;
  }

  #options(options: readonly NaiveOption[]): Buffer[] {
    if (options.length === 0) return [];
    return [
      ...options.flatMap(({ code, value }) => [this.u16(code), this.u16(value.length), padded(value)]),
      Buffer.alloc(4),
    ];
  }
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)]);
}
