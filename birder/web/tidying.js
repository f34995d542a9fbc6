// When `birder tidy` is worth while: a line above the views, until it is put away or no longer so.

import { bytes, commandLine, count, el, fill, iconButton, quoted } from "./dom.js";
import { listen } from "./state.js";

const PUT_AWAY = "birder:untidy";

export function startTidying(collection) {
  const banner = document.getElementById("tidying");
  const draw = () => {
    const { worth, bytes: size, pieces } = collection.tidy;
    banner.hidden = !worth || sessionStorage.getItem(PUT_AWAY) === collection.path;
    if (banner.hidden) return;
    fill(
      banner,
      el(
        "span",
        {},
        `The rows lie in ${count(pieces)} pieces, and former versions of them take ${bytes(size)}. To tidy up:`,
      ),
      commandLine(`birder tidy ${quoted(collection.path)}`),
      iconButton("x", "Put this away", () => {
        sessionStorage.setItem(PUT_AWAY, collection.path);
        draw();
      }),
    );
  };
  draw();
  listen("collection", draw);
}
