// @ts-check
// What a filter of the page means: as the SQL expression that the server takes, and in words.
//
// A filter is of one column: {column, values: [...], none: true} keeps the rows with one of the values, or with none;
// {column, part: "hour", values: [5, 6]} keeps times of these hours, whatever the day, and "month" those of months;
// {column, contains: "owl"} keeps texts that contain it; {column, type: "number" | "time", from, to} keeps a range, with
// digits: true of whole numbers in a column of text.

import { digitsBetween } from "./digits.js";
import { time } from "./format.js";

/** @import {DatePart, Filter, Value} from "./types.js" */

const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/**
 * A filter's column, and the part of its times: there is one filter of each.
 * @param {Pick<Filter, "column" | "part">} filter
 */
export const keyOf = ({ column, part }) => (part ? `${column} by ${part}` : column);

/**
 * An hour or a month as text.
 * @param {DatePart} part
 * @param {number} value
 */
export const partText = (part, value) => (part === "month" ? MONTHS[value - 1] : `${String(value).padStart(2, "0")} h`);

/** @param {string} column */
const quotedName = (column) => `\`${column.replaceAll("`", "``")}\``;
/** @param {string} value */
const quotedText = (value) => `'${value.replaceAll("'", "''")}'`;
/** @param {string} value */
const pattern = (value) => `'%${value.replace(/[\\%_]/g, "\\$&").replaceAll("'", "''")}%' ESCAPE '\\'`;

/**
 * One filter as SQL; empty for a filter that keeps everything.
 * @param {Filter} filter
 */
export function sqlOf(filter) {
  const name = quotedName(filter.column);
  const column = filter.part ? `date_part('${filter.part}', ${name})` : name;
  const parts = [];
  if (filter.contains) parts.push(containing(filter.column, filter.contains));
  const choices = [];
  const values = filter.values ?? [];
  if (values.some((value) => typeof value === "boolean")) {
    choices.push(...values.map((value) => `${column} = ${value}`));
  } else if (values.length) choices.push(`${column} IN (${values.map(literal).join(", ")})`);
  if (filter.none) choices.push(`${column} IS NULL`);
  if (choices.length) parts.push(choices.length === 1 ? choices[0] : `(${choices.join(" OR ")})`);
  if (filter.digits) return [...parts, ...digitsBetween(column, filter)].join(" AND ");
  if (filter.from !== undefined) parts.push(`${column} >= ${bound(filter, filter.from)}`);
  if (filter.to !== undefined) parts.push(upTo(column, filter, filter.to));
  return parts.join(" AND ");
}

/**
 * Filters together as SQL; undefined if they keep everything.
 * @param {Filter[]} filters
 * @param {string} [except] the key of the filter that is left out, for its counts
 */
export function where(filters, except = undefined) {
  const parts = filters
    .filter((filter) => keyOf(filter) !== except)
    .map(sqlOf)
    .filter(Boolean);
  return parts.length ? parts.map((part) => (parts.length > 1 ? `(${part})` : part)).join(" AND ") : undefined;
}

/**
 * @param {string} column
 * @param {string} text
 */
function containing(column, text) {
  if (column === "path") return `${quotedName(column)} ILIKE ${pattern(text)}`; // the readable form of uri
  const lower = `lower(${quotedName(column)})`;
  const part = text.toLowerCase();
  const encoded = encodeURI(text).toLowerCase(); // a uri has a%20frog for "a frog"
  const plain = `${lower} LIKE ${pattern(part)}`;
  return column === "uri" && encoded !== part ? `(${plain} OR ${lower} LIKE ${pattern(encoded)})` : plain;
}

/** @param {Value} value */
const literal = (value) => (typeof value === "number" ? String(value) : quotedText(String(value)));

/**
 * @param {Filter} filter
 * @param {number | string} value
 */
const bound = ({ type }, value) =>
  type === "time"
    ? `timestamp ${quotedText(
        String(value)
          .replace(/T(\d\d:\d\d)$/, "T$1:00")
          .replace("T", " "),
      )}`
    : String(Number(value));

/**
 * Up to a number, or to the end of the minute or second that a time names: "06:59" has all of that minute.
 * @param {string} column
 * @param {Filter} filter
 * @param {number | string} value
 */
function upTo(column, filter, value) {
  const text = String(value);
  const unit =
    filter.type !== "time" ? 0 : /T\d\d:\d\d$/.test(text) ? 60_000 : /T\d\d:\d\d:\d\d$/.test(text) ? 1000 : 0;
  const moment = Date.parse(`${text}Z`);
  if (!unit || Number.isNaN(moment)) return `${column} <= ${bound(filter, value)}`;
  return `${column} < ${bound(filter, new Date(moment + unit).toISOString().slice(0, 19))}`;
}

/**
 * A filter in words, for its chip.
 * @param {Filter} filter
 */
export function describe(filter) {
  const parts = [];
  if (filter.contains) parts.push(`contains “${filter.contains}”`);
  const { part } = filter;
  const values = (filter.values ?? []).map((value) =>
    part ? partText(part, Number(value)) : value === true ? "yes" : value === false ? "no" : String(value),
  );
  if (filter.none) values.push("no value");
  if (values.length > 3) parts.push(`${values.slice(0, 2).join(", ")} and ${values.length - 2} more`);
  else if (values.length) parts.push(values.join(", "));
  const { from, to } = filter;
  if (from !== undefined && from === to) parts.push(short(filter, from));
  else if (from !== undefined && to !== undefined) parts.push(`${short(filter, from)} to ${short(filter, to)}`);
  else if (from !== undefined) parts.push(`from ${short(filter, from)}`);
  else if (to !== undefined) parts.push(`up to ${short(filter, to)}`);
  return parts.join(", ");
}

/**
 * @param {Filter} filter
 * @param {number | string} value
 */
const short = ({ type }, value) => (type === "time" ? time(value).replace(/ 00:00$/, "") : String(value));
