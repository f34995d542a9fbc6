// @ts-check
// The search box: words, images that are chosen, dropped or pasted, and more like (or unlike) images of the collection.

import { setFilters } from "./activefilters.js";
import { api } from "./api.js";
import { byId, debounced, el, fill, icon, iconButton, messageOf } from "./dom.js";
import { count, images } from "./format.js";
import { toast } from "./layers.js";
import { keepQueryImages } from "./queryimages.js";
import { go, resultsView, state } from "./state.js";

/** @import {Collection, ColumnByWords, Filter, FoundByWords, KnownWords} from "./types.js" */

const VALUES = 8; // that are offered while someone types
const LISTED = 2; // columns whose matching values are offered together
const MOST = 200; // images of the collection in one search

/** @type {Collection} */
let collection;
/** @type {HTMLInputElement} */
let input;
/** @type {HTMLElement} */
let options;
/** @type {HTMLInputElement} */
let chooser;
/** @type {{element: HTMLElement, act: (() => void) | null}[]} */
let ways = [];
let chosen = -1;
let suggestedFor = ""; // the text that the ways shown are for

/** @param {Collection} of */
export function startSearch(of) {
  collection = of;
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
    oninput: () => suggestSoon(),
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
    "aria-label": "Images to search with",
    onchange: () => {
      searchFiles([...(chooser.files ?? [])]);
      chooser.value = "";
    },
  });
  fill(
    byId("search"),
    icon("search"),
    input,
    chooser,
    iconButton("image", "Search with an image (or drop, or paste one anywhere)", () => chooser.click()),
    options,
  );
  listenForFiles();
}

export const focusSearch = () => input.select();

function placeholder() {
  const { text_by: by, search_image: files } = collection.can;
  const words =
    by === "encoder" ? "Describe what to look for" : by ? "A word: owl, bird -owl" : "Find in labels and columns";
  return words + (files ? ", or drop an image" : "");
}

/**
 * More like these images; they take the place of what was searched for, but what is kept away stays away.
 * @param {string[]} ids
 */
export function searchLike(ids) {
  if (ids.length > MOST) toast(`A search takes up to ${MOST} images: the first ${MOST} of the selection are used.`);
  const like = ids.slice(0, MOST);
  const liked = new Set(like);
  const unlike = state().unlike.filter((id) => !liked.has(id));
  go({ view: resultsView(), like, texts: [], unlike, queryImage: "", subset: "", photo: "" });
}

/**
 * Keep away from these images.
 * @param {string[]} ids
 */
export function searchUnlike(ids) {
  const unlike = [...new Set([...state().unlike, ...ids])].slice(0, MOST);
  const kept = new Set(unlike);
  const like = state().like.filter((id) => !kept.has(id));
  go({ view: resultsView(), like, unlike, subset: "", photo: "" });
}

/** @param {File[]} files */
async function searchFiles(files) {
  const usable = files.filter((file) => file.type.startsWith("image/") || !file.type);
  if (!usable.length) {
    toast("Only images can be searched with: drop a JPEG, PNG, WebP, TIFF or HEIC file.", { error: true });
    return;
  }
  if (!collection.can.search_image) {
    toast(collection.can.why ?? `The model ${collection.model.name} is not on this machine.`, { error: true });
    return;
  }
  const done = toast(usable.length === 1 ? "Embedding the image …" : `Embedding ${usable.length} images …`);
  try {
    const queryImage = await keepQueryImages(usable);
    go({ view: resultsView(), queryImage, subset: "", photo: "" });
  } catch (error) {
    toast(messageOf(error), { error: true, action: { label: "Try again", act: () => searchFiles(files) } });
  } finally {
    done();
  }
}

const whyNoWords = () => collection.can.why ?? `The model ${collection.model.name} has no text encoder.`;

// Words

/** @param {string} text */
function searchText(text) {
  close();
  input.value = "";
  go({ view: resultsView(), texts: [...state().texts, text], subset: "", photo: "" });
}

const suggestSoon = debounced(() => suggest(), 180);
let asked = 0;

async function suggest() {
  const text = input.value.trim();
  if (!text) {
    close();
    return;
  }
  const turn = ++asked;
  const nothing = { values: [], more: 0, columns: [], together: [], together_count: 0 };
  const finding = api.findValues(text, VALUES).catch(() => nothing);
  const known = collection.can.text_by === "class names" ? await api.words(text).catch(() => null) : null;
  const found = await finding;
  if (turn !== asked || input.value.trim() !== text) return;
  suggestedFor = text;
  ways = known ? byClassNames(text, known) : [byWords(text)];
  ways.push(...byColumns(found));
  if (collection.columns.some(({ name, filled }) => name === "uri" && filled > 0)) {
    const column = collection.columns.some(({ name }) => name === "path") ? "uri" : "path"; // a column of the user's
    ways.push(way("filter", `“${text}” in the file name`, "", () => narrow([{ column, contains: text }])));
  }
  fill(
    options,
    ways.map(({ element }) => element),
  );
  options.hidden = false;
  input.setAttribute("aria-expanded", "true");
  choose(ways[0].act || ways.length === 1 ? 0 : 1);
}

/**
 * Values of columns that have the words, single and together.
 * @param {FoundByWords} found
 */
function byColumns({ values, more, columns, together, together_count: both }) {
  const found = [];
  if (together.length) {
    const title = together.map(({ column, text }) => `“${text}” in ${column}`).join(" and ");
    found.push(way("filter", title, images(both), () => narrow(together.map(filterOfColumn))));
  }
  for (const { column, value, count: number } of values) {
    const filter = { column, values: [value] };
    found.push(way("filter", value, `${column}, ${count(number)}`, () => narrow([filter])));
  }
  for (const column of columns.filter(({ distinct }) => distinct > 1).slice(0, LISTED)) {
    const title = `All ${count(column.distinct)} with ${AS[column.match]} “${column.text}” in ${column.column}`;
    found.push(way("filter", title, images(column.count), () => narrow([filterOfColumn(column)])));
  }
  if (more > 0) found.push(way("filter", `${count(more)} more values have it`, "Type more to see others", null));
  return found;
}

/** @type {Record<string, string>} */
const AS = { value: "the word", words: "the word", beginnings: "a word that begins with", parts: "the part" };

/**
 * @param {ColumnByWords} found
 * @returns {Filter}
 */
const filterOfColumn = ({ column, values, text }) => (values.length ? { column, values } : { column, contains: text });

/** @param {string} text */
function byWords(text) {
  const title = `Images that show “${text}”`;
  return collection.can.search_text
    ? way("more", title, "", () => searchText(text))
    : way("more", title, whyNoWords(), null);
}

/**
 * The text as it is, if all its words are known, and what it may become.
 * @param {string} text
 * @param {KnownWords} known
 */
function byClassNames(text, { words, problem }) {
  const becomes = words
    .filter((word) => word.text !== text.toLowerCase())
    .map((word) =>
      way("more", `Images that show “${word.text}”`, `${word.classes} class${word.classes === 1 ? "" : "es"}`, () =>
        searchText(word.text),
      ),
    );
  const title = `Images that show “${text}”`;
  if (!problem) return [way("more", title, "by class names", () => searchText(text)), ...becomes];
  return becomes.length ? becomes : [way("more", title, problem, null)];
}

/** @param {Filter[]} filters that take the place of those of their columns */
function narrow(filters) {
  close();
  input.value = "";
  if (resultsView() !== state().view) go({ view: "gallery" });
  setFilters(filters);
}

/**
 * @param {string} drawing
 * @param {string} title
 * @param {string} detail
 * @param {(() => void) | null} act
 */
function way(drawing, title, detail, act) {
  const element = el(
    "div",
    { class: act ? "option" : "option off", role: "option", "aria-disabled": act ? null : "true" },
    icon(drawing),
    el("span", { class: "option-title" }, title),
    el("span", { class: "option-detail" }, detail),
  );
  element.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    act?.();
  });
  return { element, act };
}

/** @param {number} index */
function choose(index) {
  chosen = Math.max(0, Math.min(index, ways.length - 1));
  ways.forEach(({ element }, at) => {
    element.id = `search-option-${at}`;
    element.setAttribute("aria-selected", String(at === chosen));
  });
  input.setAttribute("aria-activedescendant", `search-option-${chosen}`);
  ways[chosen]?.element.scrollIntoView({ block: "nearest" });
}

function close() {
  asked++;
  options.hidden = true;
  input.setAttribute("aria-expanded", "false");
  input.removeAttribute("aria-activedescendant");
}

/** @param {KeyboardEvent} event */
async function key(event) {
  const text = input.value.trim();
  if (event.key === "ArrowDown" && !options.hidden) choose(chosen + 1);
  else if (event.key === "ArrowUp" && !options.hidden) choose(chosen - 1);
  else if (event.key === "Escape" && (input.value || !options.hidden)) {
    close();
    input.value = "";
  } else if (event.key === "Enter" && text) {
    event.preventDefault();
    const late = options.hidden || suggestedFor !== text;
    if (collection.can.search_text && late) searchText(text);
    else if (late) await suggest();
    else ways[chosen]?.act?.();
    return;
  } else return;
  event.preventDefault();
}

// Images from outside

function listenForFiles() {
  const veil = byId("drop");
  let depth = 0;
  /** @param {DragEvent} event */
  const carriesFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  /** @param {boolean} on */
  const show = (on) => {
    depth = on ? depth : 0;
    veil.hidden = !on;
  };
  addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    depth++;
    show(true);
  });
  addEventListener("dragleave", () => --depth <= 0 && show(false));
  addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    show(false);
    searchFiles([...(event.dataTransfer?.files ?? [])]);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    searchFiles(files);
  });
}
