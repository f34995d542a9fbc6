// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { FacetOrder } from "../../birder/web/facetorder.js";

function storage(kept = {}) {
  const values = new Map(Object.entries(kept));
  return {
    /** @param {string} key */
    getItem: (key) => values.get(key) ?? null,
    /**
     * @param {string} key
     * @param {string} value
     */
    setItem: (key, value) => values.set(key, value),
    /** @param {string} key */
    removeItem: (key) => values.delete(key),
    values,
  };
}

test("an order and what is hidden are kept for each collection, and columns that come later stand last", () => {
  const kept = storage();
  const order = new FacetOrder(kept, "a");
  order.move(["label", "site", "width"], "width", -1);
  order.move(["label", "site", "width"], "label", -1); // there is none before it
  order.toggle("site");
  const again = new FacetOrder(kept, "a");
  assert.deepEqual(again.ordered(["label", "new", "site", "width"]), ["label", "width", "site", "new"]);
  assert.deepEqual([again.isHidden("site"), again.isHidden("label"), again.isOwn], [true, false, true]);
  assert.equal(new FacetOrder(kept, "b").isChanged, false);
  again.toggle("site");
  again.reset();
  assert.equal(kept.values.size, 0);
});

test("a column without values for a while keeps its place, and a damaged storage is forgotten", () => {
  const kept = storage({ "birder:facets:a": "{", "birder:facets:b": '{"order": [1, "x"], "hidden": "y"}' });
  assert.equal(new FacetOrder(kept, "a").isChanged, false);
  assert.equal(kept.values.has("birder:facets:a"), false);
  const order = new FacetOrder(kept, "b");
  assert.deepEqual(order.kept, { order: ["x"], hidden: [] });
  order.move(["y", "z"], "z", -1);
  assert.deepEqual(order.ordered(["x", "y", "z"]), ["z", "y", "x"]);
});
