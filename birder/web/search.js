// The search box: words, pictures that are chosen, dropped or pasted, and more like (or unlike) photographs here.

import { api, thumbnail } from "./api.js";
import { el, fill, icon, iconButton, later } from "./dom.js";
import { filterChips, setFilter } from "./filters.js";
import { toast } from "./layers.js";
import { drawPreview, keepPictures, picture } from "./pictures.js";
import { clearAll, go, searching, state, watch } from "./state.js";
import { named } from "./these.js";

const COLUMNS = 6; // of text that are looked through while someone types
let collection, input, options, chooser;
let chosen = -1;

export function startSearch(of) {
  collection = of;
  const box = document.getElementById("search");
  options = el("div", {
    class: "options",
    role: "listbox",
    id: "search-options",
    hidden: true,
    "aria-label": "Ways to search",
  });
  input = el("input", {
    type: "search",
    id: "search-input",
    placeholder: placeholder(),
    autocomplete: "off",
    spellcheck: "false",
    role: "combobox",
    "aria-label": "Search",
    "aria-controls": "search-options",
    "aria-expanded": "false",
    oninput: () => suggestLater(),
    onfocus: () => input.value && suggest(),
    onkeydown: key,
    onblur: () => setTimeout(close, 150),
  });
  chooser = el("input", {
    type: "file",
    accept: "image/*",
    multiple: true,
    hidden: true,
    id: "search-files",
    "aria-label": "Pictures to search with",
    onchange: () => {
      searchPictures([...chooser.files]);
      chooser.value = "";
    },
  });
  fill(
    box,
    icon("search"),
    input,
    chooser,
    iconButton("picture", "Search with a picture (or drop, or paste one anywhere)", () => chooser.click()),
    options,
  );
  listenForPictures();
  watch(drawChips);
  drawChips();
}

export const focusSearch = () => input.select();

function placeholder() {
  const { search_text: words, search_image: pictures } = collection.can;
  return (words ? "Describe what to look for" : "Find in labels and columns") + (pictures ? ", or drop a picture" : "");
}

/** More like these photographs; they take the place of what was searched for. */
export function searchLike(ids) {
  if (ids.length > 200) toast("A search takes up to 200 photographs: the first 200 of the selection are used.");
  go({
    view: state().view === "map" ? "map" : "gallery",
    like: ids.slice(0, 200),
    texts: [],
    unlike: [],
    picture: "",
    these: "",
    photo: "",
  });
}

/** Keep away from these photographs. */
export function searchUnlike(ids) {
  const { unlike, view } = state();
  const all = [...new Set([...unlike, ...ids])].slice(0, 200);
  go({ view: view === "map" ? "map" : "gallery", unlike: all, these: "", photo: "" });
}

async function searchPictures(files) {
  const pictures = files.filter((file) => file.type.startsWith("image/") || !file.type);
  if (!pictures.length)
    return toast("Only pictures can be searched with: drop a JPEG, PNG, WebP, TIFF or HEIC file.", { error: true });
  if (!collection.can.search_image) return toast(why("search_image"), { error: true });
  const done = toast(pictures.length === 1 ? "Looking at the picture …" : `Looking at ${pictures.length} pictures …`);
  try {
    const key = await keepPictures(pictures);
    go({ view: state().view === "map" ? "map" : "gallery", picture: key, these: "", photo: "" });
  } catch (error) {
    toast(error.message, { error: true, action: { label: "Try again", act: () => searchPictures(files) } });
  } finally {
    done();
  }
}

/** Why the collection cannot do something. */
function why(what) {
  const { can } = collection;
  const reason = typeof can.why === "string" ? can.why : can.why?.[what];
  if (reason) return reason;
  return what === "search_text"
    ? `The model ${collection.model.name} knows pictures only: it has no text half.`
    : `The model ${collection.model.name} is not on this machine.`;
}

// Words

function searchText(text) {
  close();
  input.value = "";
  go({ view: state().view === "map" ? "map" : "gallery", texts: [...state().texts, text], these: "", photo: "" });
}

const suggestLater = later(() => suggest(), 180);
let asked = 0;

async function suggest() {
  const text = input.value.trim();
  if (!text) return close();
  const turn = ++asked;
  const ways = [
    collection.can.search_text
      ? way("more", `Photographs that show “${text}”`, "", () => searchText(text))
      : way("more", `Photographs that show “${text}”`, why("search_text"), null),
  ];
  const columns = collection.columns.filter(
    (column) => column.type === "text" && column.filled > 0 && !["id", "sha256", "etag"].includes(column.name),
  );
  const looked = columns.filter((column) => column.name !== "uri").slice(0, COLUMNS);
  const found = await Promise.all(
    looked.map(async (column) => {
      const { values } = await api.values(column.name, { contains: text, limit: 3 }).catch(() => ({ values: [] }));
      return { column, values };
    }),
  );
  if (turn !== asked || input.value.trim() !== text) return;
  for (const { column, values } of found) {
    for (const { value, count } of values) {
      ways.push(way("filter", value, `${column.name}, ${count}`, () => narrow(column.name, { values: [value] })));
    }
    if (values.length > 1)
      ways.push(
        way("filter", `All with “${text}” in ${column.name}`, "", () => narrow(column.name, { contains: text })),
      );
  }
  if (columns.some((column) => column.name === "uri")) {
    ways.push(way("filter", `“${text}” in the file name`, "", () => narrow("uri", { contains: text })));
  }
  fill(options, ways);
  options.hidden = false;
  input.setAttribute("aria-expanded", "true");
  choose(collection.can.search_text || ways.length === 1 ? 0 : 1);
}

function narrow(column, filter) {
  close();
  input.value = "";
  if (state().view !== "gallery" && state().view !== "map") go({ view: "gallery" });
  setFilter(column, filter);
}

function way(drawing, title, detail, act) {
  const option = el(
    "div",
    { class: act ? "option" : "option off", role: "option", "aria-disabled": act ? null : "true" },
    icon(drawing),
    el("span", { class: "option-title" }, title),
    el("span", { class: "option-detail" }, detail),
  );
  option.act = act;
  option.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    act?.();
  });
  return option;
}

function choose(index) {
  chosen = Math.max(0, Math.min(index, options.children.length - 1));
  [...options.children].forEach((option, at) => {
    option.id = `search-option-${at}`;
    option.setAttribute("aria-selected", String(at === chosen));
  });
  input.setAttribute("aria-activedescendant", `search-option-${chosen}`);
  options.children[chosen]?.scrollIntoView({ block: "nearest" });
}

function close() {
  asked++;
  options.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

async function key(event) {
  if (event.key === "ArrowDown" && !options.hidden) choose(chosen + 1);
  else if (event.key === "ArrowUp" && !options.hidden) choose(chosen - 1);
  else if (event.key === "Escape" && (input.value || !options.hidden)) {
    close();
    input.value = "";
  } else if (event.key === "Enter" && input.value.trim()) {
    event.preventDefault();
    if (collection.can.search_text && options.hidden) return searchText(input.value.trim());
    if (options.hidden) await suggest();
    else options.children[chosen]?.act?.();
    return;
  } else return;
  event.preventDefault();
}

// Pictures from outside

function listenForPictures() {
  const veil = document.getElementById("drop");
  let depth = 0;
  const carries = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const show = (on) => {
    depth = on ? depth : 0;
    veil.hidden = !on;
  };
  addEventListener("dragenter", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    depth++;
    show(true);
  });
  addEventListener("dragleave", () => --depth <= 0 && show(false));
  addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault();
    show(false);
    searchPictures([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    searchPictures(files);
  });
}

// What is searched for and filtered by, as chips that can be removed

function drawChips() {
  const now = state();
  const row = document.getElementById("chips");
  const chips = [];
  if (searching(now)) chips.push(el("span", { class: "chips-title" }, "Near to"));
  for (const text of now.texts) {
    chips.push(
      el(
        "span",
        { class: "chip query" },
        `“${text}”`,
        iconButton("x", `Do not search for “${text}”`, () => go({ texts: now.texts.filter((each) => each !== text) })),
      ),
    );
  }
  if (now.picture) {
    const kept = picture(now.picture);
    const canvas = el("canvas", { class: "preview", "aria-hidden": "true", width: 1, height: 1 });
    drawPreview(canvas, kept).catch(() => {});
    chips.push(
      el(
        "span",
        { class: "chip query" },
        canvas,
        kept?.name ?? "a picture",
        iconButton("x", "Do not search with the picture", () => go({ picture: "" })),
      ),
    );
  }
  chips.push(...photoChips(now, "like", "more like"), ...photoChips(now, "unlike", "unlike"));
  if (now.these)
    chips.push(
      el("span", { class: "chips-title" }, "Only"),
      el(
        "span",
        { class: "chip query" },
        named(now.these),
        iconButton("x", "Show others again", () => go({ these: "" })),
      ),
    );
  const filters = filterChips();
  if (filters.length) chips.push(el("span", { class: "chips-title" }, "Where"), ...filters);
  if (chips.length) chips.push(el("button", { type: "button", class: "link", onclick: clearAll }, "Clear all"));
  fill(row, chips);
  row.hidden = !chips.length || !["gallery", "map"].includes(now.view);
}

function photoChips(now, key, title) {
  const ids = now[key];
  if (!ids.length) return [];
  const pictures = ids.slice(0, 3).map((id) => el("img", { class: "preview", alt: "", src: thumbnail({ id }, 96) }));
  const number = ids.length === 1 ? `${title} this` : `${title} these ${ids.length}`;
  return [
    el(
      "span",
      { class: `chip query ${key}` },
      pictures,
      number,
      iconButton("x", `Do not search ${number}`, () => go({ [key]: [] })),
    ),
  ];
}
