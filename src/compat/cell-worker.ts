/** The entry of a thread that runs cells. Owns nothing; see cell-thread.ts and cell.ts. */
import { runCell } from "./cell.js";
import { serveCells } from "./cell-thread.js";

serveCells(runCell);
