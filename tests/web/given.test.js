// @ts-check
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { GivenLabels } from "../../birder/web/given.js";

/** @type {Map<string, string>} */
let kept;
const storage = {
  getItem: (/** @type {string} */ key) => kept.get(key) ?? null,
  setItem: (/** @type {string} */ key, /** @type {string} */ value) => void kept.set(key, value),
  removeItem: (/** @type {string} */ key) => void kept.delete(key),
};

beforeEach(() => {
  kept = new Map();
});

test("the last change of the last act is the one to take back", () => {
  const given = new GivenLabels(storage, "/a");
  assert.equal(given.last(), undefined);
  given.remember("x", [{ change: "1", ids: ["a"] }]);
  given.remember("y", [{ change: "2", ids: ["b"] }]);
  given.remember("y", [{ change: "3", ids: ["c", "d"] }]); // gathered into the same act
  assert.deepEqual(given.last(), { act: "y", change: "3", ids: ["c", "d"] });
  assert.deepEqual(given.idsOf("y"), ["b", "c", "d"]);
  given.forgetChange("y", "3");
  assert.equal(given.last()?.change, "2");
  given.forgetChange("y", "2");
  assert.equal(given.last()?.act, "x");
  given.forget("x");
  assert.equal(given.last(), undefined);
});

test("they outlive a reload, in the same collection only", () => {
  new GivenLabels(storage, "/a").remember("x", [{ change: "1", ids: ["a"] }]);
  assert.equal(new GivenLabels(storage, "/a").last()?.change, "1");
  assert.equal(new GivenLabels(storage, "/b").last(), undefined);
  kept.set("birder:mine", "{nonsense");
  assert.equal(new GivenLabels(storage, "/a").last(), undefined);
});

test("the last 200 acts are remembered, and a full storage loses none of them", () => {
  const full = {
    ...storage,
    setItem: () => {
      throw new Error("full");
    },
  };
  const given = new GivenLabels(full, "/a");
  for (let act = 0; act < 250; act++) given.remember(`${act}`, [{ change: `${act}`, ids: ["a"] }]);
  assert.equal(given.idsOf("49"), undefined);
  assert.deepEqual(given.idsOf("50"), ["a"]);
  assert.equal(given.last()?.act, "249");
});
