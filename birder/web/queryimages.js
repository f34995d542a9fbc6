// @ts-check
// Images that were dropped, pasted or chosen to search with: embedded once by the server, then kept in this tab, so that
// changing a filter, reloading and going back need no second upload.

import { api } from "./api.js";

/** @typedef {{name: string, vector: string, preview: string}} Kept */

const PREVIEW = 96; // pixels
/** @type {Map<string, Kept>} */
const known = new Map();

/**
 * Embed images, and keep the mean of their unit vectors. Gives a key for the address.
 * @param {File[]} files
 */
export async function keepQueryImages(files) {
  const answers = [];
  for (const file of files) answers.push(await api.embed(file));
  const sum = new Float32Array(answers[0].embedding.length);
  for (const { embedding } of answers) {
    const length = Math.hypot(...embedding) || 1;
    embedding.forEach((number, index) => {
      sum[index] += number / length;
    });
  }
  const key = crypto.getRandomValues(new Uint32Array(2)).join("");
  const name = files.length === 1 ? files[0].name || "pasted image" : `${files.length} images`;
  const kept = { name, vector: encode(new Uint8Array(sum.buffer)), preview: await preview(files[0]) };
  known.set(key, kept);
  try {
    sessionStorage.setItem(`birder:picture:${key}`, JSON.stringify(kept));
  } catch {
    // The tab's storage is full: the image lasts until the page is reloaded.
  }
  return key;
}

/**
 * What is kept under a key; null when this tab never had it.
 * @param {string} key
 */
export function queryImage(key) {
  const stored = sessionStorage.getItem(`birder:picture:${key}`);
  /** @type {Kept | null} */
  const kept = known.get(key) ?? (stored ? JSON.parse(stored) : null);
  if (!kept) return null;
  return { ...kept, embedding: [...new Float32Array(decode(kept.vector).buffer)] };
}

/**
 * Draw a query image's preview; the content security policy allows no data: URLs, so it goes by a canvas.
 * @param {HTMLCanvasElement} canvas
 * @param {Kept | null} kept
 */
export async function drawPreview(canvas, kept) {
  if (!kept?.preview) return;
  const bitmap = await createImageBitmap(new Blob([decode(kept.preview)], { type: "image/jpeg" }));
  canvas.width = bitmap.width;
  canvas.height = bitmap.height;
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0);
}

/** @param {File} file */
async function preview(file) {
  try {
    const bitmap = await createImageBitmap(file);
    const side = Math.min(bitmap.width, bitmap.height);
    const canvas = new OffscreenCanvas(PREVIEW, PREVIEW);
    const [left, top] = [(bitmap.width - side) / 2, (bitmap.height - side) / 2];
    canvas.getContext("2d")?.drawImage(bitmap, left, top, side, side, 0, 0, PREVIEW, PREVIEW);
    const blob = await canvas.convertToBlob({ type: "image/jpeg", quality: 0.8 });
    return encode(new Uint8Array(await blob.arrayBuffer()));
  } catch {
    return ""; // a format that the server reads and this browser does not, such as HEIC
  }
}

/** @param {Uint8Array} bytes */
const encode = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
/** @param {string} text */
const decode = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
