// What the page shows, kept in the address behind the #, so that reload, bookmarks, back and forward work.

export const VIEWS = ["gallery", "map", "help", "duplicates", "failures"];

const START = {
  view: "gallery",
  filters: [], // conditions.js says what they are
  texts: [], // words searched for
  like: [], // ids of photographs searched for
  unlike: [], // ids of photographs to keep away from
  picture: "", // the key of a dropped picture, kept in pictures.js
  these: "", // the key of photographs shown for themselves, kept in these.js
  order: "",
  photo: "", // the id of the one that is open
  colour: "", // the column that colours the map
  helpColumn: "label",
  helpClass: "",
  helpOrder: "certain",
  threshold: 0.97,
};
const LISTS = { texts: "q", like: "like", unlike: "unlike" };
const TEXTS = {
  picture: "picture",
  these: "these",
  order: "sort",
  photo: "photo",
  colour: "colour",
  helpColumn: "column",
  helpClass: "class",
  helpOrder: "rank",
};

let current = read(location.hash);
const listeners = [];

/** The state that an address means; what it cannot mean is left out. */
export function read(hash) {
  const [view, rest = ""] = hash.replace(/^#/, "").split("?", 2);
  const values = new URLSearchParams(rest);
  const state = { ...START, view: VIEWS.includes(view) ? view : "gallery" };
  for (const [key, short] of Object.entries(LISTS)) state[key] = values.getAll(short).filter(Boolean);
  for (const [key, short] of Object.entries(TEXTS)) state[key] = values.get(short) ?? START[key];
  const threshold = Number(values.get("threshold"));
  if (threshold > 0 && threshold <= 1) state.threshold = threshold;
  state.filters = values.getAll("filter").map(readFilter).filter(Boolean);
  return state;
}

function readFilter(json) {
  try {
    const { column, type, values, none, contains, from, to } = JSON.parse(json);
    if (typeof column !== "string") return null;
    const filter = { column };
    if (type === "time" || type === "number") filter.type = type;
    if (Array.isArray(values))
      filter.values = values.filter((value) => ["string", "number", "boolean"].includes(typeof value));
    if (none === true) filter.none = true;
    if (typeof contains === "string") filter.contains = contains;
    for (const [key, value] of [
      ["from", from],
      ["to", to],
    ]) {
      if (filter.type === "number" ? Number.isFinite(value) : filter.type === "time" && typeof value === "string")
        filter[key] = value;
    }
    return filter;
  } catch {
    return null;
  }
}

/** The address of a state. */
export function address(state) {
  const values = new URLSearchParams();
  for (const [key, short] of Object.entries(LISTS)) for (const value of state[key]) values.append(short, value);
  for (const filter of state.filters) values.append("filter", JSON.stringify(filter));
  for (const [key, short] of Object.entries(TEXTS)) if (state[key] !== START[key]) values.set(short, state[key]);
  if (state.threshold !== START.threshold) values.set("threshold", state.threshold);
  const rest = values.toString();
  return `#${state.view}${rest ? `?${rest}` : ""}`;
}

export const state = () => current;

/** Whether nearness to something orders the photographs. */
export const searching = ({ texts, like, unlike, picture } = current) =>
  texts.length + like.length + unlike.length > 0 || picture !== "";

/** Change the state. `replace` leaves no step for the browser's Back. */
export function go(changes, { replace = false } = {}) {
  const before = current;
  current = { ...current, ...changes };
  const to = address(current);
  if (to !== address(before)) history[replace ? "replaceState" : "pushState"](null, "", to);
  tell(before);
}

/** Show everything: no search, no filter. */
export const clearAll = () => go({ filters: [], texts: [], like: [], unlike: [], picture: "", these: "" });

/** Call `listener(state, before)` at every change. */
export function watch(listener) {
  listeners.push(listener);
}

function tell(before) {
  for (const listener of listeners) listener(current, before);
}

function moved() {
  const before = current;
  current = read(location.hash);
  tell(before);
}

addEventListener("popstate", moved);
addEventListener("hashchange", () => {
  if (address(read(location.hash)) !== address(current)) moved();
});

/**
 * What parts of the page tell each other: "labels" (ids, column, value) are written, something is "undone" (ids, where
 * they are known), "theirs" (ids, by, column, undone) were labelled elsewhere, other "columns" have values, the
 * "collection" was described anew, the "selection" has changed, a view has "shown" other photographs.
 */
export const signals = new EventTarget();

export const tellAll = (name, detail = {}) => signals.dispatchEvent(new CustomEvent(name, { detail }));
export const listen = (name, action) => signals.addEventListener(name, (event) => action(event.detail));
