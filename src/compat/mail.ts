/**
 * A mail in an mbox, as `git send-email` and mutt open it: RFC 5322 headers, plain text, `From ` quoted (mboxrd).
 * Owns the envelope; what the mail says is in mail-text.ts. Pure: time and chance come in.
 */
import { columnsOf } from "./text.js";

/** Kernel lists ask for lines that can be quoted a few times without passing column 80. */
export const MAIL_WIDTH = 75;

export interface Mail {
  /** `Name <address>`. */
  readonly from: string;
  readonly subject: string;
  /** None of more than MAIL_WIDTH columns. */
  readonly body: readonly string[];
  readonly date: Date;
  /** Makes the Message-ID one of its kind: letters, digits and dots. */
  readonly unique: string;
  readonly userAgent: string;
}

/** The whole file. */
export function mbox(mail: Mail): string {
  const body = mail.body.map((line) => line.replace(/^(>*From )/, ">$1"));
  const isAscii = [...body, mail.subject, mail.from].every(isPlainAscii);
  const headers = [
    `From bit33 ${fromLineDate(mail.date)}`,
    folded("From", encodedAddress(mail.from)),
    folded("Subject", encoded(mail.subject)),
    `Date: ${headerDate(mail.date)}`,
    `Message-ID: <${mail.unique}@${domainOf(mail.from)}>`,
    `User-Agent: ${mail.userAgent}`,
    "MIME-Version: 1.0",
    `Content-Type: text/plain; charset=${isAscii ? "us-ascii" : "utf-8"}`,
    `Content-Transfer-Encoding: ${isAscii ? "7bit" : "8bit"}`,
  ];
  // An mbox separates messages by an empty line.
  return `${[...headers, "", ...body, ""].join("\n")}\n`;
}

/** RFC 5322, section 3.3. */
function headerDate(date: Date): string {
  return date.toUTCString().replace(/GMT$/, "+0000");
}

/** asctime's form, which marks the beginning of a message (RFC 4155): `Sun Nov 22 22:09:00 2026`. */
function fromLineDate(date: Date): string {
  const [weekday, day, month, year, time] = date.toUTCString().replace(",", "").split(" ");
  return `${weekday} ${month} ${day.replace(/^0/, " ")} ${time} ${year}`;
}

/** RFC 5322, section 2.2.3: a line may be broken before white space. */
function folded(name: string, value: string): string {
  const lines: string[] = [];
  let line = `${name}:`;
  for (const word of value.split(" ")) {
    if (line.length + 1 + word.length > MAIL_WIDTH && line.trim() !== `${name}:`) {
      lines.push(line);
      line = "";
    }
    line += ` ${word}`;
  }
  return [...lines, line].join("\n");
}

/** RFC 2047: words of at most 75 characters in which any letter can be written; each holds whole letters. */
function encoded(text: string): string {
  if (isPlainAscii(text)) return text;
  const words: string[] = [];
  let chunk = "";
  // 39 bytes are 52 in base64; with `Subject: `, `=?UTF-8?B?` and `?=` that is 73.
  const largestChunkBytes = 39;
  for (const character of text) {
    if (Buffer.byteLength(chunk + character) > largestChunkBytes) {
      words.push(chunk);
      chunk = "";
    }
    chunk += character;
  }
  return [...words, chunk].map((word) => `=?UTF-8?B?${Buffer.from(word).toString("base64")}?=`).join(" ");
}

/** Only the name in front of an address may be encoded. */
function encodedAddress(address: string): string {
  const [, name, mailbox] = /^(.*?)\s*(<[^<>]*>)$/.exec(address) ?? [];
  if (name === undefined || name === "") return address;
  const bare = name.replaceAll('"', "");
  if (!isPlainAscii(bare)) return `${encoded(bare)} ${mailbox}`;
  // RFC 5322, section 3.2.3: what is no atom has to be quoted.
  return `${/^[\w !#$%&'*+/=?^`{|}~-]+$/.test(bare) ? bare : `"${bare.replaceAll("\\", "")}"`} ${mailbox}`;
}

function domainOf(address: string): string {
  return /@([\w.-]+)>?$/.exec(address)?.[1] ?? "bit33.invalid";
}

function isPlainAscii(text: string): boolean {
  return columnsOf(text) === Buffer.byteLength(text);
}
