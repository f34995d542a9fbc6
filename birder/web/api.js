// @ts-check
// The server's HTTP interface (docs/api.md). Everything the page knows comes through here.

import { startsOf, TextList, UuidList } from "./idlist.js";

/**
 * @import {Ids} from "./idlist.js"
 * @import {
 *   BoxesOfImage, Collection, ColumnValues, DrawnBox, Duplicates, Failure, FoundByWords, KnownWords, LabelBody, MapCluster,
 *   MapColumn, MapState, PastAct, PastShift, Photo, PhotoDetails, Places, Predictions, Review, SavedFilter, SearchBody, StackAnswer,
 *   Suggestions, Taught, TeachJobs,
 * } from "./types.js"
 */

const BASE = "/api/v1";
const BYTES = { headers: { Accept: "application/octet-stream" } };
const JSON_BODY = { "Content-Type": "application/json" };

/** A request that failed; `message` is for the person in front of the page. */
export class ApiError extends Error {
  /**
   * @param {string} message
   * @param {number} status 0 if there was no answer
   */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/**
 * The status of a request that failed; 0 for other errors.
 * @param {unknown} error
 */
export const statusOf = (error) => (error instanceof ApiError ? error.status : 0);

/**
 * Whether the page itself gave up a request, which nobody need hear of.
 * @param {unknown} error
 */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

/** @typedef {Record<string, string | number | string[] | undefined | null>} Query lists give their name several times */

/** @param {Query} values */
const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const pairs = given.flatMap(([name, value]) => [value].flat().map((each) => [name, String(each)]));
  return pairs.length ? `?${new URLSearchParams(pairs)}` : "";
};

/**
 * @param {string} path
 * @param {RequestInit} options
 */
async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(BASE + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    dispatchEvent(new Event("birder-silent"));
    throw new ApiError(
      "The server does not answer. Check that `birder serve` is running: the page goes on by itself when it is back.",
      0,
    );
  }
  if (response.ok) return response;
  throw new ApiError(await reasonOf(response), response.status);
}

/** @param {Response} response */
async function reasonOf(response) {
  const fallback = `The server answered ${response.status} ${response.statusText}. Its terminal may say more.`;
  try {
    const { detail } = await response.json();
    if (typeof detail === "string") return detail;
    if (Array.isArray(detail)) return detail.map((part) => part.msg).join("; ");
    return fallback;
  } catch {
    return fallback;
  }
}

/**
 * @param {string} path
 * @param {Query} values
 * @param {AbortSignal} [signal]
 */
const get = async (path, values = {}, signal = undefined) => (await request(path + query(values), { signal })).json();

/**
 * @param {string} path
 * @param {Query} values
 * @param {object} [body] what is posted, if something is
 * @returns {Promise<Ids>}
 */
async function idsOf(path, values = {}, body = undefined) {
  const posted = { method: "POST", headers: { ...BYTES.headers, ...JSON_BODY }, body: JSON.stringify(body) };
  const answer = await request(path + query(values), body ? posted : BYTES);
  const isJson = answer.headers.get("Content-Type")?.startsWith("application/json");
  return isJson ? new TextList((await answer.json()).ids) : new UuidList(await answer.arrayBuffer());
}

/**
 * The ids of all images in their stacks, and where each stack begins: the sizes as numbers of 32 bits, before the ids.
 * @param {Query} values
 * @returns {Promise<{ids: Ids, starts: Uint32Array}>}
 */
async function allStacks(values) {
  const answer = await request(`/stacks/ids${query(values)}`, BYTES);
  if (answer.headers.get("Content-Type")?.startsWith("application/json")) {
    const { ids, sizes } = await answer.json();
    return { ids: new TextList(ids), starts: startsOf(sizes) };
  }
  const bytes = await answer.arrayBuffer();
  const count = new DataView(bytes).getUint32(0, true);
  return { ids: new UuidList(bytes.slice(4 + 4 * count)), starts: startsOf(new Uint32Array(bytes, 4, count)) };
}

/**
 * The values of a column on the map: its head as JSON, behind the length of that, and a number a point.
 * @param {string} name
 * @returns {Promise<MapColumn>}
 */
async function mapColumn(name) {
  const answer = await request(`/map/column/${encodeURIComponent(name)}`, BYTES);
  const bytes = await answer.arrayBuffer();
  const start = 4 + new DataView(bytes).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, start - 4)));
  if (head.type === "number") return { ...head, shares: new Float32Array(bytes, start) };
  return { ...head, codes: new Uint8Array(bytes, start) };
}

/**
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} [signal]
 */
const post = async (path, body, signal = undefined) =>
  (
    await request(path, {
      method: "POST",
      signal,
      headers: JSON_BODY,
      body: JSON.stringify(body),
    })
  ).json();

/**
 * @param {string} path
 * @param {File} file
 */
const upload = async (path, file) => {
  const form = new FormData();
  form.append("file", file, file.name || "image");
  return (await request(path, { method: "POST", body: form })).json();
};

/** @param {string} id */
const photoPath = (id) => `/photos/${encodeURIComponent(id)}`;

const IDS_A_REQUEST = 200; // the server takes filters of up to 10,000 characters

/**
 * Images by their ids, in the order of the ids; ids that are gone are left out.
 * @param {string[]} ids
 * @param {AbortSignal} [signal]
 * @param {string[]} [columns] whose values are wanted with them
 * @returns {Promise<Photo[]>}
 */
async function photosOf(ids, signal, columns = []) {
  const found = new Map();
  for (let start = 0; start < ids.length; start += IDS_A_REQUEST) {
    const some = ids.slice(start, start + IDS_A_REQUEST);
    const where = `id IN (${some.map((id) => `'${id.replaceAll("'", "''")}'`)})`;
    const { photos } = await get("/photos", { where, limit: IDS_A_REQUEST, columns }, signal);
    for (const each of photos) found.set(each.id, each);
  }
  return ids.map((id) => found.get(id)).filter(Boolean);
}

export const api = {
  /** @returns {Promise<Collection>} */
  collection: () => get("/collection"),
  photosOf,
  /**
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<{photos: Photo[], total: number}>}
   */
  photos: (values, signal) => get("/photos", values, signal),
  /** @param {Query} values */
  ids: (values) => idsOf("/ids", values),
  /**
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<{stacks: StackAnswer[], total: number, images: number}>}
   */
  stacks: (values, signal) => get("/stacks", values, signal),
  allStacks,
  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<PhotoDetails>}
   */
  photo: (id, signal) => get(photoPath(id), {}, signal),
  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<BoxesOfImage>}
   */
  boxes: (id, signal) => get(`${photoPath(id)}/boxes`, {}, signal),
  /**
   * Draw a box on an image, or correct the one that the row is.
   * @param {string} id
   * @param {DrawnBox} body
   * @returns {Promise<{id: string, act: string}>}
   */
  drawBox: (id, body) => post(`${photoPath(id)}/boxes`, body),
  /**
   * Ask for a byte of an image's video; fails with the reason if it cannot be sent.
   * @param {string} id
   */
  video: (id) => request(`${photoPath(id)}/video`, { headers: { Range: "bytes=0-0" } }),
  /**
   * @param {string} id
   * @param {number} k
   * @param {AbortSignal} [signal]
   * @returns {Promise<{photos: Photo[]}>}
   */
  neighbours: (id, k, signal) => get(`${photoPath(id)}/neighbours`, { k }, signal),
  /**
   * @param {string} id
   * @param {AbortSignal} [signal]
   * @returns {Promise<Predictions>}
   */
  predictions: (id, signal) => get(`${photoPath(id)}/predictions`, {}, signal),
  /**
   * @param {string} name
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<ColumnValues>}
   */
  values: (name, values, signal) => get(`/columns/${encodeURIComponent(name)}/values`, values, signal),
  /**
   * @param {string} text
   * @param {number} limit
   * @returns {Promise<FoundByWords>}
   */
  findValues: (text, limit) => get("/values", { text, limit }),
  /**
   * @param {SearchBody} body
   * @param {AbortSignal} [signal]
   * @returns {Promise<{photos: Photo[], note: string | null}>}
   */
  search: (body, signal) => post("/search", body, signal),
  /**
   * @param {string} text
   * @returns {Promise<KnownWords>}
   */
  words: (text) => get("/words", { text }),
  /**
   * @param {File} file
   * @returns {Promise<{embedding: number[]}>}
   */
  embed: (file) => upload("/embed", file),
  /**
   * @param {string | undefined} where
   * @param {AbortSignal} [signal]
   * @returns {Promise<Places>}
   */
  places: (where, signal) => get("/places", { where }, signal),
  /**
   * The ids of images at some places, each a latitude and a longitude, or at all.
   * @param {{places?: number[][], where?: string}} body
   */
  placeIds: (body) => idsOf("/places/ids", {}, body),
  /** @returns {Promise<MapState>} */
  map: () => get("/map"),
  /** @returns {Promise<MapState>} */
  computeMap: () => post("/map", {}),
  mapIds: () => idsOf("/map/ids"),
  /** @returns {Promise<{clusters: MapCluster[]}>} */
  mapClusters: () => get("/map/clusters"),
  mapColumn,
  /** The points' places: x0, y0, x1, y1, ... */
  async mapPoints() {
    return new Float32Array(await (await request("/map/points")).arrayBuffer());
  },
  /**
   * @param {LabelBody} body
   * @returns {Promise<{act: string, changes: {change: string, changed: number}[]}>}
   */
  label: (body) => post("/labels", body),
  /**
   * Hand labels over as the page is left, when no answer can be waited for; false if the browser does not take them.
   * @param {LabelBody} body
   */
  labelLeaving: (body) =>
    navigator.sendBeacon(`${BASE}/labels`, new Blob([JSON.stringify(body)], { type: "application/json" })),
  /**
   * @param {Query} values
   * @returns {Promise<{acts: PastAct[], next: number | null, total: number}>}
   */
  history: (values) => get("/labels/history", values),
  /**
   * @param {string} act
   * @returns {Promise<{ids: string[]}>}
   */
  act: (act) => get(`/labels/history/${encodeURIComponent(act)}`),
  /**
   * @param {{act?: string, by?: string | null}} which
   * @returns {Promise<{act: string, restored: number, skipped: number}>}
   */
  undo: (which) => post("/labels/undo", which),
  /** @returns {Promise<{shifts: PastShift[]}>} */
  shifts: () => get("/times/history"),
  /**
   * @param {{act: string, by: string | null}} which
   * @returns {Promise<{act: string, restored: number, skipped: number}>}
   */
  undoShift: (which) => post("/times/undo", which),
  events: () => new EventSource(`${BASE}/events`),
  /**
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<Suggestions>}
   */
  suggest: (values, signal) => get("/suggest", values, signal),
  /**
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<Review>}
   */
  review: (values, signal) => get("/review", values, signal),
  /**
   * @param {string} column
   * @param {AbortSignal} [signal]
   * @returns {Promise<Taught>}
   */
  taught: (column, signal) => get("/teach", { column }, signal),
  /** @returns {Promise<TeachJobs>} */
  teachJobs: () => get("/teach/jobs"),
  /**
   * @param {{column: string, network: boolean}} body
   * @returns {Promise<TeachJobs>}
   */
  saveClassifier: (body) => post("/teach/save", body),
  /**
   * @param {{column: string, precision: number | null, unknown: boolean, where?: string}} body
   * @returns {Promise<TeachJobs>}
   */
  nameRest: (body) => post("/teach/name", body),
  /**
   * @param {"save" | "name"} job
   * @returns {Promise<TeachJobs>}
   */
  cancelTeaching: (job) => post("/teach/cancel", { job }),
  /** @returns {Promise<{filters: SavedFilter[]}>} */
  filters: () => get("/filters"),
  /**
   * @param {SavedFilter} filter
   * @returns {Promise<{filters: SavedFilter[]}>}
   */
  keepFilter: (filter) => post("/filters", filter),
  /**
   * @param {string} name
   * @returns {Promise<{filters: SavedFilter[]}>}
   */
  removeFilter: (name) => post("/filters/remove", { name }),
  /** @returns {Promise<{formats: {name: string, writes: string}[]}>} */
  exportFormats: () => get("/export/formats"),
  /**
   * The file, and its name.
   * @param {{format: string, where?: string, ids?: string[]}} body
   */
  async export(body) {
    const response = await request("/export", { method: "POST", headers: JSON_BODY, body: JSON.stringify(body) });
    const name = /filename\*?="?(?:utf-8'')?([^"]+)/.exec(response.headers.get("content-disposition") ?? "")?.[1];
    return { file: await response.blob(), name: decodeURIComponent(name ?? "export") };
  },
  /**
   * @param {Query} values
   * @param {AbortSignal} [signal]
   * @returns {Promise<Duplicates>}
   */
  duplicates: (values, signal) => get("/duplicates", values, signal),
  /**
   * The ids in one group, or in all; `others`: all but the largest of each.
   * @param {Query} values
   * @returns {Promise<{ids: string[]}>}
   */
  duplicateIds: (values) => get("/duplicates/ids", values),
  /** @param {Query} values */
  cancelDuplicates: (values) => request(`/duplicates/cancel${query(values)}`, { method: "POST" }),
  /**
   * @param {number} offset
   * @param {number} limit
   * @returns {Promise<{total: number, failures: Failure[]}>}
   */
  failures: (offset, limit) => get("/failures", { offset, limit }),
};

/**
 * The address of a thumbnail whose longest side is the next of the server's sizes; `v` names its content, for the cache.
 * @param {{id: string, v?: string}} photo
 * @param {number} pixels
 */
export function thumbnailUrl(photo, pixels) {
  const size = [96, 256, 512].find((each) => each >= pixels * 0.9) ?? 512;
  return `${BASE}${photoPath(photo.id)}/thumbnail${query({ size, v: photo.v })}`;
}

/** The address of the classifier that was saved last. */
export const CLASSIFIER_URL = `${BASE}/teach/classifier`;

/**
 * The address of an image; of a box, what the box shows or the whole image that it is on.
 * @param {string} id
 * @param {{whole?: boolean}} of
 */
export const imageUrl = (id, { whole = false } = {}) => `${BASE}${photoPath(id)}/image${whole ? "?whole=true" : ""}`;

/**
 * An image with every pixel that its file has.
 * @param {string} id
 * @param {{whole?: boolean}} of
 */
export const fullImageUrl = (id, of = {}) => `${imageUrl(id)}${query({ full: "true", whole: of.whole ? "true" : "" })}`;

/** @param {string} id */
export const videoUrl = (id) => `${BASE}${photoPath(id)}/video`;
