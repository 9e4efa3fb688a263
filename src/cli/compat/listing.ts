/** How `bit33 compat --list` looks. Must not know where profiles come from. */
import { padEnd, wrap } from "../../compat/text.js";
import type { Profile } from "../../profiles/profile.js";

export interface Group {
  readonly title: string;
  readonly profiles: readonly Profile[];
}

export function listing(groups: readonly Group[], width: number): string[] {
  const names = groups.flatMap(({ profiles }) => profiles.map(({ name }) => name.length));
  const labelWidth = Math.max(...names) + 4;
  const further = " ".repeat(labelWidth);
  return groups.flatMap(({ title, profiles }, index) => [
    ...(index === 0 ? [] : [""]),
    title,
    ...profiles.flatMap((profile) => [
      "",
      ...wrap(profile.program, width, { first: padEnd(`  ${profile.name}`, labelWidth), further }),
      ...wrap(profile.summary, width, { first: further }),
      ...wrap(`${profile.evidence}; ${profile.source.join("; ")}`, width, {
        first: further,
        further: `${further}  `,
      }),
    ]),
  ]);
}

export function listingJson(groups: readonly Group[]): string[] {
  return groups.flatMap(({ profiles }) =>
    profiles.map(({ kind, name, program, summary, evidence, source }) =>
      JSON.stringify({ kind, name, program, summary, evidence, source }),
    ),
  );
}
