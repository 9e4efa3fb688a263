/** `npm run docs`: writes those pages of docs/ that are made from the sources. Must not know what they say. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { PAGES } from "./pages.js";
import { root } from "./vm/paths.js";

for (const { path, text } of PAGES) writeFileSync(join(root, path), await text());
