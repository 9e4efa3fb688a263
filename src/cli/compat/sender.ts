/** Who a mail is from, as the environment says; git reads the same names. Must not know what is mailed. */

/** To be put in by hand where the environment says nothing. */
export const PLACEHOLDER = "Your Name <you@example.org>";

/** `Name <address>`. */
export function senderFrom(env: NodeJS.ProcessEnv): string {
  const [, nameInEmail, addressInEmail] =
    /^\s*(?:(.*?)\s*<([^<>\s]+@[^<>\s]+)>|)\s*$/.exec(env.EMAIL ?? "") ?? [];
  const address = [env.GIT_AUTHOR_EMAIL, addressInEmail, env.EMAIL].find(isAddress);
  if (address === undefined) return PLACEHOLDER;
  const name = [env.GIT_AUTHOR_NAME, nameInEmail, env.NAME].find((each) => each !== undefined && each !== "");
  return `${name ?? address.split("@")[0]} <${address}>`;
}

function isAddress(text: string | undefined): text is string {
  return text !== undefined && /^[^<>\s@]+@[^<>\s@]+$/.test(text);
}
