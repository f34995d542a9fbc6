// @ts-check
// When `birder tidy` is worth while: a line above the views, until it is put away or no longer so.

import { byId, commandLine, el, fill, iconButton } from "./dom.js";
import { bytes, count, quoted } from "./format.js";
import { listen } from "./signals.js";

/** @import {Collection} from "./types.js" */

const PUT_AWAY = "birder:untidy";

/** @param {Collection} collection */
export function startTidying(collection) {
  const banner = byId("tidying");
  const draw = () => {
    const { worth, bytes: size, pieces } = collection.tidy;
    banner.hidden = !worth || sessionStorage.getItem(PUT_AWAY) === collection.path;
    if (banner.hidden) return;
    const text = `The rows are in ${count(pieces)} fragments, and former versions of them take ${bytes(size)}. To tidy up:`;
    fill(
      banner,
      el("span", {}, text),
      commandLine(`birder tidy ${quoted(collection.path)}`),
      iconButton("x", "Close the notice", () => {
        sessionStorage.setItem(PUT_AWAY, collection.path);
        draw();
      }),
    );
  };
  draw();
  listen("collection", draw);
}
