// The page of `birder export-model --to-web`: names an image that is chosen or dropped, on this device.
// It is put into the page behind onnxruntime-web, which leaves itself in `globalThis.ort`.

const SHOWN = 5;
const LARGEST = 64_000_000; // pixels: four bytes each, and three more as the network's input

/** @type {any} */
const ort = /** @type {any} */ (globalThis).ort;

/** @param {string} id */
function part(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`The page has no ${id}.`);
  return found;
}

/** The bytes that stand in the page as base64; they are taken out of it.
 * @param {string} id */
function bytes(id) {
  const place = part(id);
  const text = atob(place.textContent ?? "");
  place.remove();
  const found = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
  return found;
}

/** @param {string} text */
function tell(text) {
  part("status").textContent = text;
}

/** RGB pixels of an image as it lies in its file, turned upright, on white where it is transparent.
 * @param {Blob} file */
async function pixels(file) {
  const image = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const { width, height } = image;
  if (width * height > LARGEST) throw new RangeError(`It has ${width} x ${height} pixels, which is too large.`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  if (!context) throw new Error("This browser cannot read images.");
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(image, 0, 0);
  image.close();
  const { data } = context.getImageData(0, 0, width, height);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    rgb[to] = data[from];
    rgb[to + 1] = data[from + 1];
    rgb[to + 2] = data[from + 2];
  }
  return new ort.Tensor("uint8", rgb, [1, height, width, 3]);
}

/** @param {Float32Array} logits */
function softmax(logits) {
  const highest = logits.reduce((a, b) => Math.max(a, b));
  const powers = Array.from(logits, (logit) => Math.exp(logit - highest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/** @param {string} name @param {number} probability */
function row(name, probability) {
  const item = document.createElement("li");
  const line = document.createElement("div");
  line.className = "line";
  const label = document.createElement("span");
  label.className = "name";
  label.textContent = name;
  const share = document.createElement("span");
  share.textContent = `${(100 * probability).toFixed(1)} %`;
  line.append(label, share);
  const bar = document.createElement("meter");
  bar.value = probability;
  bar.setAttribute("aria-hidden", "true"); // the line above says the same
  item.append(line, bar);
  return item;
}

/** @type {string[]} */
const labels = JSON.parse(part("labels").textContent ?? "[]");
const input = /** @type {HTMLInputElement} */ (part("file"));
const preview = /** @type {HTMLImageElement} */ (part("image"));
const drop = part("drop");
/** @type {any} */
let session = null;
let asked = 0;

/** @param {File} file */
async function answer(file) {
  asked += 1;
  const mine = asked;
  tell(`Looking at ${file.name} ...`);
  try {
    const { logits } = await session.run({ images: await pixels(file) });
    if (mine !== asked) return; // another image was chosen meanwhile
    const probabilities = softmax(logits.data);
    const order = probabilities.map((_, index) => index).sort((a, b) => probabilities[b] - probabilities[a]);
    part("names").replaceChildren(...order.slice(0, SHOWN).map((index) => row(labels[index], probabilities[index])));
    URL.revokeObjectURL(preview.src);
    preview.src = URL.createObjectURL(file);
    preview.alt = `The image ${file.name}`;
    part("answer").hidden = false;
    tell(`${file.name}: ${labels[order[0]]}, ${(100 * probabilities[order[0]]).toFixed(1)} %`);
  } catch (error) {
    if (mine !== asked) return;
    part("answer").hidden = true;
    tell(`${file.name} cannot be used as an image. ${error instanceof RangeError ? error.message : ""}`);
  }
}

input.addEventListener("change", () => {
  const file = input.files?.[0];
  if (file) answer(file);
});
// Anywhere on the page: a browser would open an image that misses the frame, and leave the page.
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (event.relatedTarget === null) drop.classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("over");
  const file = event.dataTransfer?.files[0];
  if (file && session) answer(file);
});

try {
  ort.env.wasm.numThreads = 1; // more need headers that only a server can send
  ort.env.wasm.wasmBinary = bytes("runtime").buffer;
  session = await ort.InferenceSession.create(bytes("model"), { executionProviders: ["wasm"] });
  input.disabled = false;
  tell("Ready.");
} catch (error) {
  tell(`The model does not run in this browser: ${error instanceof Error ? error.message : error}`);
}

export {};
