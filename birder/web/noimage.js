// @ts-check
// Why an image is not shown, in words.

import { emptyState } from "./dom.js";

const KEPT = "Its row and its embedding are still here.";

/**
 * What stands in place of an image that cannot be shown.
 * @param {unknown} uri of its row
 */
export function noImage(uri) {
  if (typeof uri === "string" && uri.startsWith("urn:"))
    return emptyState("image", "This row has no file", [
      "It was imported from another tool's table or array, which names no image file.",
      "Its values, its embedding and what is nearest to it are here.",
    ]);
  if (typeof uri === "string" && !uri.startsWith("file:"))
    return emptyState(
      "image",
      "The image is not on this machine",
      `It was read or imported from ${uri}, and the server does not download images. ${KEPT}`,
    );
  return emptyState(
    "image",
    "The image cannot be shown",
    `Its file is not where it was when it was embedded or imported, or can no longer be read. ${KEPT}`,
  );
}
