/**
 * Binary layouts as tables, and the one encoder and decoder that walk them.
 *
 * Used by every control-plane structure of the house, so it sits in its lowest folder. It knows no
 * structure itself. Data-plane code (rings, packet headers) reads its fields in place instead.
 */

/** One field of a structure. A name that starts with `_` is padding: written as zero, never read. */
export interface FieldSpec {
  readonly name: string;
  /** Bytes from the start of the structure. */
  readonly offset: number;
  /** Bytes. 1, 2 and 4 decode to a number, 8 to a bigint, any other width to a copy of the bytes. */
  readonly width: number;
}

/** A structure: its C name, its size in bytes, and its fields in order, without gap or overlap. */
export interface Layout<F extends readonly FieldSpec[] = readonly FieldSpec[]> {
  readonly cName: string;
  readonly byteLength: number;
  readonly fields: F;
}

type Value<Width extends number> = Width extends 8 ? bigint : Width extends 1 | 2 | 4 ? number : Uint8Array;

/** The value that a layout decodes to: its named fields. */
export type Decoded<L extends Layout> = {
  readonly [S in L["fields"][number] as S["name"] extends `_${string}` ? never : S["name"]]: Value<
    S["width"]
  >;
};

/** Declares a layout; the types of its values follow from the table. */
export function defineLayout<const F extends readonly FieldSpec[]>(
  cName: string,
  byteLength: number,
  fields: F,
): Layout<F> {
  return { cName, byteLength, fields };
}

/**
 * The byte order of this machine. vhost-user numbers are "in the machine native byte order" (vhost-user,
 * Message Specification); virtio's own are little-endian and say so at the call.
 */
const NATIVE_LITTLE_ENDIAN = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

/** A view of exactly these bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Reads a structure at `base`. Does **not** check bounds: the caller has compared the length. */
export function decodeStruct<L extends Layout>(
  layout: L,
  view: DataView,
  base: number,
  littleEndian = NATIVE_LITTLE_ENDIAN,
): Decoded<L> {
  const value: Record<string, number | bigint | Uint8Array> = {};
  for (const field of layout.fields) {
    if (field.name.startsWith("_")) continue;
    value[field.name] = readField(view, base + field.offset, field.width, littleEndian);
  }
  return value as unknown as Decoded<L>;
}

/** Writes a structure at `base`, padding as zero. A value that does not fit its field is our mistake: it throws. */
export function encodeStruct<L extends Layout>(
  layout: L,
  value: Decoded<L>,
  view: DataView,
  base: number,
  littleEndian = NATIVE_LITTLE_ENDIAN,
): void {
  const values = value as unknown as Readonly<Record<string, number | bigint | Uint8Array>>;
  for (const field of layout.fields) {
    const at = base + field.offset;
    const given = field.name.startsWith("_") ? new Uint8Array(field.width) : values[field.name];
    if (!writeField(view, at, field.width, given, littleEndian)) {
      throw new RangeError(
        `${layout.cName}.${field.name}: ${String(given)} does not fit ${field.width} bytes`,
      );
    }
  }
}

function readField(view: DataView, at: number, width: number, little: boolean): number | bigint | Uint8Array {
  if (width === 8) return view.getBigUint64(at, little);
  if (width === 4) return view.getUint32(at, little);
  if (width === 2) return view.getUint16(at, little);
  if (width === 1) return view.getUint8(at);
  return new Uint8Array(view.buffer, view.byteOffset + at, width).slice();
}

function writeField(
  view: DataView,
  at: number,
  width: number,
  value: number | bigint | Uint8Array | undefined,
  little: boolean,
): boolean {
  if (value instanceof Uint8Array) {
    if (value.byteLength !== width) return false;
    new Uint8Array(view.buffer, view.byteOffset + at, width).set(value);
    return true;
  }
  if (typeof value === "bigint") {
    if (width !== 8 || BigInt.asUintN(64, value) !== value) return false;
    view.setBigUint64(at, value, little);
    return true;
  }
  if (value === undefined || !Number.isInteger(value) || value < 0 || value >= 2 ** (8 * width)) return false;
  if (width === 4) view.setUint32(at, value, little);
  else if (width === 2) view.setUint16(at, value, little);
  else if (width === 1) view.setUint8(at, value);
  else return false;
  return true;
}

/** What is wrong with a table: a gap, an overlap, a size that is not the sum. Empty for a good one. */
export function layoutFaults(layout: Layout): string[] {
  const faults: string[] = [];
  let end = 0;
  for (const field of layout.fields) {
    if (field.offset > end) faults.push(`${layout.cName}: gap before ${field.name} at ${end}`);
    if (field.offset < end) faults.push(`${layout.cName}: ${field.name} overlaps the field before it`);
    end = field.offset + field.width;
  }
  if (end !== layout.byteLength)
    faults.push(`${layout.cName}: fields end at ${end}, size is ${layout.byteLength}`);
  return faults;
}
