// The selected photographs, by id: one selection for all views.

import { tellAll } from "./state.js";

const chosen = new Set();

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
  clear: () => chosen.size && change(() => chosen.clear()),
};

function change(action) {
  action();
  tellAll("selection");
}
