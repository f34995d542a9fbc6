// The selected photographs, by id: one selection for all views. Each view says which of them it shows, so that nobody
// labels what is out of sight without knowing it.

import { state, tellAll } from "./state.js";

const chosen = new Set();
const sight = {};

export const selection = {
  has: (id) => chosen.has(id),
  ids: () => [...chosen],
  get size() {
    return chosen.size;
  },
  add: (ids) => change(() => ids.forEach((id) => chosen.add(id))),
  toggle: (id) => change(() => chosen.delete(id) || chosen.add(id)),
  set: (ids) =>
    change(() => {
      chosen.clear();
      ids.forEach((id) => chosen.add(id));
    }),
  remove: (ids) => change(() => ids.forEach((id) => chosen.delete(id))),
  clear: () => chosen.size && change(() => chosen.clear()),
};

function change(action) {
  action();
  tellAll("selection");
}

/** Let a view say what it shows: `which(ids)` gives those of some ids, or a promise of them. "shown" tells of changes. */
export const inSight = (view, which) => (sight[view] = which);

/** The selected photographs that the view does not show, however far it is scrolled. */
export async function outOfSight() {
  const ids = selection.ids();
  const seen = new Set((await sight[state().view]?.(ids)) ?? []);
  return ids.filter((id) => !seen.has(id));
}
