// The server's HTTP interface (docs/api.md). Everything the page knows comes through here.

const BASE = "/api/v1";

/** A request that failed; `message` is for the person in front of the page. */
export class ApiError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** Whether a request was given up by the page itself, which nobody need hear of. */
export const isAbort = (error) => error instanceof DOMException && error.name === "AbortError";

const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
};

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(BASE + path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new ApiError("The server does not answer. Is `birder serve` still running? Start it again, then retry.", 0);
  }
  if (response.ok) return response;
  throw new ApiError(await reasonOf(response), response.status);
}

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

const get = async (path, values = {}, signal = undefined) => (await request(path + query(values), { signal })).json();

const post = async (path, body, signal = undefined) =>
  (
    await request(path, {
      method: "POST",
      signal,
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
    })
  ).json();

const upload = async (path, file, signal = undefined) => {
  const form = new FormData();
  form.append("file", file, file.name || "picture");
  return (await request(path, { method: "POST", body: form, signal })).json();
};

const photo = (id) => `/photos/${encodeURIComponent(id)}`;
const column = (name) => encodeURIComponent(name);

const AT_ONCE = 200; // ids in one filter: the server takes filters of up to 10,000 characters

/** Images by their ids, in the order of the ids; ids that are gone are left out. */
async function photosOf(ids, signal) {
  const found = new Map();
  for (let start = 0; start < ids.length; start += AT_ONCE) {
    const where = `id IN (${ids.slice(start, start + AT_ONCE).map((id) => `'${id.replaceAll("'", "''")}'`)})`;
    const { photos } = await get("/photos", { where, limit: AT_ONCE }, signal);
    for (const each of photos) found.set(each.id, each);
  }
  return ids.map((id) => found.get(id)).filter(Boolean);
}

export const api = {
  collection: () => get("/collection"),
  photosOf,
  photos: (values, signal) => get("/photos", values, signal),
  ids: (values, signal) => get("/ids", values, signal),
  photo: (id, signal) => get(photo(id), {}, signal),
  neighbours: (id, k, signal) => get(`${photo(id)}/neighbours`, { k }, signal),
  predictions: (id, signal) => get(`${photo(id)}/predictions`, {}, signal),
  values: (name, values, signal) => get(`/columns/${column(name)}/values`, values, signal),
  search: (body, signal) => post("/search", body, signal),
  embed: (file, signal) => upload("/embed", file, signal),
  map: () => get("/map"),
  computeMap: () => post("/map", {}),
  mapIds: () => get("/map/ids"),
  mapColumn: (name, signal) => get(`/map/column/${column(name)}`, {}, signal),
  async mapPoints() {
    return new Float32Array(await (await request("/map/points")).arrayBuffer());
  },
  label: (body) => post("/labels", body),
  /** Hand labels over as the page is left, when no answer can be waited for; false if the browser does not take them. */
  labelLeaving: (body) =>
    navigator.sendBeacon(`${BASE}/labels`, new Blob([JSON.stringify(body)], { type: "application/json" })),
  history: (values) => get("/labels/history", values),
  act: (act) => get(`/labels/history/${encodeURIComponent(act)}`),
  undo: (which) => post("/labels/undo", which),
  events: () => new EventSource(`${BASE}/events`),
  suggest: (values, signal) => get("/suggest", values, signal),
  duplicates: (threshold, limit, signal) => get("/duplicates", { threshold, limit }, signal),
  failures: (offset, limit, signal) => get("/failures", { offset, limit }, signal),
};

/** Where a thumbnail is whose longest side is the next of the server's sizes; `v` names its content, for the cache. */
export function thumbnail(of, pixels) {
  const size = [96, 256, 512].find((each) => each >= pixels * 0.9) ?? 512;
  return BASE + photo(of.id) + "/thumbnail" + query({ size, v: of.v });
}

export const image = (id) => `${BASE}${photo(id)}/image`;
