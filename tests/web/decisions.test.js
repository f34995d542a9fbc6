// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { decisionOf, inWords, labelsOf, withRejected } from "../../birder/web/decisions.js";
import { LatestLabels } from "../../birder/web/latest.js";
import { asOne, stacksOf } from "../../birder/web/stacks.js";

/** @import {Photo} from "../../birder/web/types.js" */

/**
 * @param {string} id
 * @param {string | null} predicted
 * @param {Partial<Photo>} more
 * @returns {Photo}
 */
const photo = (id, predicted, more = {}) => ({
  ...{ id, name: id, label: null, width: 1, height: 1, v: "" },
  predicted,
  ...more,
});
/** @param {string} key */
const pressed = (key, more = {}) => ({
  ...{ key, ctrlKey: false, metaKey: false, altKey: false, shiftKey: false },
  ...more,
});

test("decisions have the same keys everywhere, and leave those of the browser alone", () => {
  assert.deepEqual(
    ["a", "A", "x", "u", "b", "1", "9"].map((key) => decisionOf(pressed(key))),
    ["accept", "accept", "reject", "unknown", "blank", 1, 9],
  );
  for (const key of ["0", "c", "Enter", "10"]) assert.equal(decisionOf(pressed(key)), undefined);
  for (const modifier of ["ctrlKey", "metaKey", "altKey"])
    assert.equal(decisionOf(pressed("a", { [modifier]: true })), undefined);
  assert.equal(decisionOf(pressed("4", { shiftKey: true })), 4); // where digits need Shift
});

test("accepting writes what is predicted of each, rejecting a note beside what was rejected before", () => {
  const photos = [photo("1", "owl"), photo("2", "fox", { rejected: "owl | cat" }), photo("3", "owl"), photo("4", null)];
  assert.deepEqual(labelsOf("accept", photos, "seen", []), [
    { ids: ["1", "3"], column: "seen", value: "owl" },
    { ids: ["2"], column: "seen", value: "fox" },
  ]);
  const rejected = labelsOf("reject", photos, "seen", []);
  assert.deepEqual(rejected, [
    { ids: ["1", "3"], column: "rejected", value: "owl" },
    { ids: ["2"], column: "rejected", value: "owl | cat | fox" },
  ]);
  assert.equal(withRejected(photo("1", "owl", { rejected: "owl" })), "owl");
  assert.equal(typeof labelsOf("accept", [photo("4", null)], "seen", []), "string");
  assert.deepEqual(labelsOf("blank", photos, "seen", []), [
    { ids: ["1", "2", "3", "4"], column: "seen", value: "blank" },
  ]);
  assert.deepEqual(labelsOf(2, [photo("1", "owl")], "seen", ["hare", "lynx"]), [
    { ids: ["1"], column: "seen", value: "lynx" },
  ]);
  assert.match(String(labelsOf(3, photos, "seen", ["hare", "lynx"])), /no label 3/);
  assert.equal(inWords([{ ids: ["1"], column: "rejected", value: "owl" }]), "not owl");
});

test("a label keeps its key until nine others were used since", () => {
  /** @type {Map<string, string>} */
  const store = new Map();
  const storage = {
    getItem: (/** @type {string} */ key) => store.get(key) ?? null,
    setItem: (/** @type {string} */ key, /** @type {string} */ value) => void store.set(key, value),
  };
  const latest = new LatestLabels(storage, "/a.birder");
  /** @param {string | null} value */
  const give = (value, column = "label") => latest.note({ ids: ["1"], column, value });
  for (let number = 1; number <= 9; number++) give(`kind ${number}`);
  for (const value of [null, "unknown", "blank"]) give(value);
  give("owl", "rejected");
  give("kind 1");
  give("kind 10"); // in place of the one that was used least lately
  assert.deepEqual(latest.of("label").slice(0, 3), ["kind 1", "kind 10", "kind 3"]);
  assert.equal(latest.of("label").length, 9);
  assert.deepEqual(latest.of("rejected"), []);
  assert.deepEqual(new LatestLabels(storage, "/b.birder").of("label"), []);
  assert.equal(new LatestLabels(storage, "/a.birder").of("label")[1], "kind 10");
});

test("images of a sequence are one stack, named by the highest sum of scores", () => {
  const photos = [
    photo("1", "fox", { sequence: "s", predicted_score: 0.6 }),
    photo("2", "cat", { sequence: "s", predicted_score: 0.9 }),
    photo("3", "fox", { sequence: "s", predicted_score: 0.5 }),
    photo("4", "owl", { sequence: null, predicted_score: 0.4 }),
    photo("5", "owl", { sequence: null, predicted_score: 0.4 }),
  ];
  const stacks = stacksOf(photos, true);
  assert.deepEqual(
    stacks.map((stack) => [stack.photos.length, stack.name, stack.agreeing]),
    [
      [3, "fox", 2],
      [1, "owl", 1],
      [1, "owl", 1],
    ],
  );
  assert.ok(Math.abs(stacks[0].score - 0.55) < 1e-12);
  assert.deepEqual(labelsOf("accept", asOne(stacks[0]), "label", []), [
    { ids: ["1", "2", "3"], column: "label", value: "fox" },
  ]);
  assert.equal(stacksOf(photos, false).length, 5);
});
