// @ts-check
// Numbers, times and paths as people read them.

const whole = new Intl.NumberFormat("en");
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });

/**
 * 100000 -> "100,000".
 * @param {number} number
 */
export const count = (number) => whole.format(number);

/**
 * 1 -> "1 image", 2 -> "2 images".
 * @param {number} number
 */
export const images = (number) => `${count(number)} image${number === 1 ? "" : "s"}`;

/** @param {number} number */
export const decimal = (number) => fine.format(number);

/**
 * A cosine in [-1, 1], as it stands under an image.
 * @param {number} number
 */
export const cosine = (number) => number.toFixed(3);

/**
 * 0.5 -> "50 %", 0.042 -> "4.2 %".
 * @param {number} share
 */
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;

/**
 * ISO 8601 -> "2024-05-01 13:45", or "2024-05-01 13:45:07" where there are seconds (as stored: images have no time zone).
 * @param {unknown} iso
 */
export const time = (iso) =>
  String(iso)
    .replace("T", " ")
    .replace(/(:\d\d)(:\d\d)?(\.\d+)?(Z|[+-]\d\d:?\d\d)?$/, (_, minutes, seconds = ":00") =>
      seconds === ":00" ? minutes : minutes + seconds,
    );

/**
 * A moment in UTC, as this machine's time zone has it: "2024-05-01 13:45".
 * @param {string} at
 */
export function localTime(at) {
  const moment = new Date(at);
  return time(new Date(moment.getTime() - moment.getTimezoneOffset() * 60_000).toISOString()).slice(0, 16);
}

/**
 * A time in a video: 12.5 -> "0:12.5", 3725 -> "1:02:05".
 * @param {number} seconds
 */
export function clock(seconds) {
  const milliseconds = Math.round(1000 * seconds);
  const whole = Math.floor(milliseconds / 1000);
  const rest = (milliseconds % 1000) / 1000;
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  const start = hours ? `${hours}:${String(minutes).padStart(2, "0")}` : String(minutes);
  return `${start}:${String(whole % 60).padStart(2, "0")}${rest ? String(rest).slice(1) : ""}`;
}

/**
 * What was added to times: 3600 -> "+1 h", -183600 -> "−2 d 3 h", 90 -> "+1 min 30 s".
 * @param {number} seconds
 */
export function duration(seconds) {
  let rest = Math.round(1e6 * Math.abs(seconds)) / 1e6;
  const parts = [];
  for (const [unit, size] of /** @type {[string, number][]} */ ([
    ["d", 86_400],
    ["h", 3600],
    ["min", 60],
  ])) {
    if (rest >= size) parts.push(`${count(Math.floor(rest / size))} ${unit}`);
    rest %= size;
  }
  if (rest || !parts.length) parts.push(`${decimal(rest)} s`);
  return (seconds < 0 ? "−" : "+") + parts.join(" ");
}

/**
 * 2048576 -> "2.0 MB".
 * @param {number} number
 */
export function bytes(number) {
  for (const [unit, size] of /** @type {[string, number][]} */ ([
    ["GB", 1e9],
    ["MB", 1e6],
    ["kB", 1e3],
  ])) {
    if (number >= size) return `${(number / size).toFixed(1)} ${unit}`;
  }
  return `${number} bytes`;
}

/**
 * A value of a column.
 * @param {string} name of the column
 * @param {string | undefined} type what the column contains, if that is known
 * @param {unknown} value not null
 */
export function columnValue(name, type, value) {
  if (name === "bytes") return bytes(Number(value));
  if (type === "time") return time(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : decimal(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/**
 * The last part of a path or uri.
 * @param {string} name
 */
export const fileName = (name) => name.split("/").pop() ?? name;

/**
 * A path as a shell takes it.
 * @param {string} path
 */
export const quoted = (path) => (/^[\w./~-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);
