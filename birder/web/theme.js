// @ts-check
// Light or dark: as the system has it, or as chosen here.

import { byId, fill, icon } from "./dom.js";

const KEY = "birder:theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export function startTheme() {
  apply();
  system.addEventListener("change", apply);
  byId("theme").addEventListener("click", () => {
    const to = isDark() ? "light" : "dark";
    // What the system has anyway need not be kept: so a change there is followed again.
    if ((to === "dark") === system.matches) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, to);
    apply();
  });
}

const isDark = () => {
  const chosen = localStorage.getItem(KEY);
  return chosen ? chosen === "dark" : system.matches;
};

function apply() {
  const dark = isDark();
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const label = dark ? "Light colours" : "Dark colours";
  const button = fill(byId("theme"), icon(dark ? "sun" : "moon"));
  button.title = label;
  button.setAttribute("aria-label", label);
}
