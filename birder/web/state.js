// @ts-check
// What the page shows, kept in the address, so that reload, bookmarks, back and forward work.

import { address, isSearch, read } from "./address.js";

/** @import {State} from "./types.js" */

let current = read(location.hash);
/** @type {((state: State, before: State) => unknown)[]} */
const watchers = [];

export const state = () => current;

/** Whether nearness to something orders the images now. */
export const searching = (of = current) => isSearch(of);

/**
 * Change the state. `replace` leaves no step for the browser's Back.
 * @param {Partial<State>} changes
 */
export function go(changes, { replace = false } = {}) {
  const before = current;
  current = { ...current, ...changes };
  const to = address(current);
  if (to !== address(before)) history[replace ? "replaceState" : "pushState"](null, "", to);
  tell(before);
}

/** Show everything: no search, no filter. */
export const clearAll = () => go({ filters: [], texts: [], like: [], unlike: [], queryImage: "", subset: "" });

/** The view that shows what is searched for: the map if that is shown, else the gallery. */
export const resultsView = () => (current.view === "map" ? "map" : "gallery");

/**
 * Have `watcher(state, before)` called at every change.
 * @param {(state: State, before: State) => unknown} watcher
 */
export function watch(watcher) {
  watchers.push(watcher);
}

/** @param {State} before */
function tell(before) {
  for (const watcher of watchers) watcher(current, before);
}

function readAddress() {
  const before = current;
  current = read(location.hash);
  tell(before);
}

addEventListener("popstate", readAddress);
addEventListener("hashchange", () => {
  if (address(read(location.hash)) !== address(current)) readAddress();
});
