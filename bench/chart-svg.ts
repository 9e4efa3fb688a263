/**
 * SVG as text, and how every chart looks: a background of its own, colours for light and for dark, no script and no font
 * that has to be fetched. Must not know what is drawn.
 */

export type Attributes = Readonly<Record<string, string | number>>;

/** One element a line, so that a change of a chart can be read. */
export function element(name: string, attributes: Attributes, ...content: readonly string[]): string {
  const given = Object.entries(attributes).map(
    ([key, value]) => ` ${key}="${escapeText(typeof value === "number" ? tenths(value) : value)}"`,
  );
  const open = `<${name}${given.join("")}`;
  if (content.length === 0) return `${open}/>`;
  const isText = content.length === 1 && !content[0].startsWith("<");
  return isText ? `${open}>${content[0]}</${name}>` : `${open}>\n${content.join("\n")}\n</${name}>`;
}

export function escapeText(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

function tenths(value: number): string {
  return String(Math.round(value * 10) / 10);
}

export type Anchor = "start" | "middle" | "end";

/** `y` is the middle of the line. */
export function label(x: number, y: number, text: string, style = "", anchor: Anchor = "start"): string {
  // A third of the letters' height below the middle: dominant-baseline is not the same everywhere.
  const attributes = { x, y: y + 4, ...(style === "" ? {} : { class: style }) };
  return element(
    "text",
    anchor === "start" ? attributes : { ...attributes, "text-anchor": anchor },
    escapeText(text),
  );
}

export function line(x1: number, y1: number, x2: number, y2: number, style: string): string {
  return element("line", { x1, y1, x2, y2, class: style });
}

export function box(x: number, y: number, width: number, height: number, style: string): string {
  return element("rect", { x, y, width, height, class: style });
}

/** Of a text of 12 pixels, generously: letters differ from font to font. */
export function widthOf(text: string): number {
  return text.length * 7;
}

/** A text in lines that are no wider than so many pixels, unless a word is. */
export function wrapped(text: string, width: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(" ")) {
    const longer = lines.length === 0 ? word : `${lines[lines.length - 1]} ${word}`;
    if (lines.length > 0 && widthOf(longer) <= width) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/**
 * Blue and vermilion of Okabe and Ito, which people tell apart who see few colours; grey where there is nothing to tell. No
 * chart says anything by colour alone.
 */
const LIGHT = {
  background: "#ffffff",
  frame: "#d1d9e0",
  text: "#1f2328",
  soft: "#59636e",
  grid: "#e3e8ed",
  good: "#0072b2",
  bad: "#d55e00",
  plain: "#7d8590",
} as const;
const DARK: Readonly<Record<keyof typeof LIGHT, string>> = {
  background: "#0d1117",
  frame: "#3d444d",
  text: "#f0f6fc",
  soft: "#9ea7b3",
  grid: "#2a313a",
  good: "#56b4e9",
  bad: "#ff8f3f",
  plain: "#8b949e",
};

function rules(colours: Readonly<Record<keyof typeof LIGHT, string>>): string {
  const { background, frame, text, soft, grid, good, bad, plain } = colours;
  return [
    `.background{fill:${background};stroke:${frame}}`,
    `text{fill:${text}}`,
    `text.soft{fill:${soft}}`,
    `.grid{stroke:${grid}}`,
    `.axis{stroke:${soft}}`,
    `.good{fill:${good}}`,
    `.bad{fill:${bad}}`,
    `.plain{fill:${plain}}`,
    `text.bad{fill:${bad}}`,
    `.limit{fill:${text};stroke:${background}}`,
    `.curve{stroke:${good}}`,
    `.whisker{stroke:${soft}}`,
  ].join("\n");
}

const STYLE = `text{font:12px system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif}
text.title{font-size:17px;font-weight:600}
text.head{font-weight:600}
text.bad{font-weight:600}
.second{opacity:.6}
.curve{fill:none;stroke-width:2}
.whisker{stroke-width:1.5}
${rules(LIGHT)}
@media (prefers-color-scheme:dark){
${rules(DARK)}
}`;

const EDGE = 24;
const LINE_HEIGHT = 17;

/** A chart's title and what it says of itself, from the top; `bottom` is where the rest may begin. */
export function heading(
  title: string,
  subtitle: string,
  width: number,
): { content: string[]; bottom: number } {
  const lines = wrapped(subtitle, width - 2 * EDGE);
  return {
    content: [
      label(EDGE, 30, title, "title"),
      ...lines.map((text, index) => label(EDGE, 54 + index * LINE_HEIGHT, text, "soft")),
    ],
    bottom: 54 + lines.length * LINE_HEIGHT,
  };
}

export interface Drawing {
  readonly width: number;
  readonly height: number;
  readonly title: string;
  /** For those who do not see it. */
  readonly description: string;
  readonly content: readonly string[];
}

export function drawing({ width, height, title, description, content }: Drawing): string {
  const attributes = {
    xmlns: "http://www.w3.org/2000/svg",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-labelledby": "title description",
  };
  return `${element(
    "svg",
    attributes,
    element("title", { id: "title" }, escapeText(title)),
    element("desc", { id: "description" }, escapeText(description)),
    `<style>\n${STYLE}\n</style>`,
    element("rect", { x: 0.5, y: 0.5, width: width - 1, height: height - 1, rx: 6, class: "background" }),
    ...content,
  )}\n`;
}
