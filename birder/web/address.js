// @ts-check
// What the page shows, as it is written into the address behind the #, and read from there.

/** @import {Filter, State} from "./types.js" */

export const VIEWS = ["gallery", "map", "stations", "review", "teach", "duplicates", "failures"];

/** @type {State} */
const START = {
  view: "gallery",
  filters: [], // types.d.ts says what they are
  texts: [], // words searched for
  like: [], // ids of images searched for
  unlike: [], // ids of images to keep away from
  queryImage: "", // the key of a dropped image, kept in queryimages.js
  subset: "", // the key of images shown by themselves, kept in subset.js
  order: "",
  photo: "", // the id of the image that is open
  colour: "", // the column that colours the map
  teachColumn: "label",
  teachClass: "",
  teachOrder: "certain",
  reviewSource: "predictions",
  reviewName: "",
  reviewOrder: "doubtful",
  stacks: "yes", // whether the review shows the images of a sequence together
  threshold: 0.97,
};
/** @type {["texts" | "like" | "unlike", string][]} */
const LISTS = [
  ["texts", "q"],
  ["like", "like"],
  ["unlike", "unlike"],
];
/**
 * @typedef {"queryImage"|"subset"|"order"|"photo"|"colour"|"teachColumn"|"teachClass"|"teachOrder"} Text
 * @type {[Text | "reviewSource" | "reviewName" | "reviewOrder" | "stacks", string][]}
 */
const TEXTS = [
  ["queryImage", "picture"],
  ["subset", "these"],
  ["order", "sort"],
  ["photo", "photo"],
  ["colour", "colour"],
  ["teachColumn", "column"],
  ["teachClass", "class"],
  ["teachOrder", "rank"],
  ["reviewSource", "source"],
  ["reviewName", "named"],
  ["reviewOrder", "first"],
  ["stacks", "stacks"],
];

/**
 * The state that an address means; what it cannot mean is left out.
 * @param {string} hash
 * @returns {State}
 */
export function read(hash) {
  const [view, rest = ""] = hash.replace(/^#/, "").split("?", 2);
  const values = new URLSearchParams(rest);
  const state = { ...START, view: VIEWS.includes(view) ? view : "gallery" };
  for (const [key, short] of LISTS) state[key] = values.getAll(short).filter(Boolean);
  for (const [key, short] of TEXTS) state[key] = values.get(short) ?? START[key];
  const threshold = Number(values.get("threshold"));
  if (threshold > 0 && threshold <= 1) state.threshold = threshold;
  state.filters = values
    .getAll("filter")
    .map(readFilter)
    .filter((filter) => filter !== null);
  return state;
}

/**
 * @param {string} json
 * @returns {Filter | null}
 */
function readFilter(json) {
  try {
    const { column, type, part, values, none, contains, from, to } = JSON.parse(json);
    if (typeof column !== "string") return null;
    /** @type {Filter} */
    const filter = { column };
    if (type === "time" || type === "number") filter.type = type;
    if (part === "hour" || part === "month") filter.part = part;
    if (Array.isArray(values))
      filter.values = values.filter((value) => ["string", "number", "boolean"].includes(typeof value));
    if (none === true) filter.none = true;
    if (typeof contains === "string") filter.contains = contains;
    if (isBound(filter, from)) filter.from = from;
    if (isBound(filter, to)) filter.to = to;
    return filter;
  } catch {
    return null;
  }
}

/**
 * @param {Filter} filter
 * @param {unknown} value
 */
const isBound = ({ type }, value) =>
  type === "number" ? Number.isFinite(value) : type === "time" && typeof value === "string";

/**
 * The address of a state.
 * @param {State} state
 */
export function address(state) {
  const values = new URLSearchParams();
  for (const [key, short] of LISTS) for (const value of state[key]) values.append(short, value);
  for (const filter of state.filters) values.append("filter", JSON.stringify(filter));
  for (const [key, short] of TEXTS) if (state[key] !== START[key]) values.set(short, state[key]);
  if (state.threshold !== START.threshold) values.set("threshold", String(state.threshold));
  const rest = values.toString();
  return `#${state.view}${rest ? `?${rest}` : ""}`;
}

/**
 * Whether nearness to something orders the images.
 * @param {State} state
 */
export const isSearch = ({ texts, like, unlike, queryImage }) =>
  texts.length + like.length + unlike.length > 0 || queryImage !== "";
