// Light or dark: as the system has it, or as chosen here.

import { fill, icon } from "./dom.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const button = () => document.getElementById("theme");

export function startTheme() {
  apply();
  system.addEventListener("change", apply);
  button().addEventListener("click", () => {
    const to = isDark() ? "light" : "dark";
    // What the system has anyway need not be kept: so a change there is followed again.
    if ((to === "dark") === system.matches) localStorage.removeItem("birder:theme");
    else localStorage.setItem("birder:theme", to);
    apply();
  });
}

const isDark = () => {
  const chosen = localStorage.getItem("birder:theme");
  return chosen ? chosen === "dark" : system.matches;
};

function apply() {
  const dark = isDark();
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  const label = dark ? "Light colours" : "Dark colours";
  fill(button(), icon(dark ? "sun" : "moon"));
  button().title = label;
  button().setAttribute("aria-label", label);
}
