// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { actionOf } from "../../birder/web/keymap.js";

/**
 * @param {string} key
 * @param {Partial<{ctrlKey: boolean, metaKey: boolean, altKey: boolean, shiftKey: boolean}>} modifiers
 */
const pressed = (key, modifiers = {}) => ({
  key,
  ctrlKey: false,
  metaKey: false,
  altKey: false,
  shiftKey: false,
  ...modifiers,
});
const PLAIN = { layered: false, selected: false, onGallery: false };

test("keys mean what the list of keys says", () => {
  assert.equal(actionOf(pressed("/"), PLAIN), "search");
  assert.equal(actionOf(pressed("?", { shiftKey: true }), PLAIN), "keys");
  assert.equal(actionOf(pressed("l"), PLAIN), "label");
  assert.equal(actionOf(pressed("v"), PLAIN), "view 1");
  assert.equal(actionOf(pressed("V", { shiftKey: true }), PLAIN), "view -1");
  assert.equal(actionOf(pressed("z", { ctrlKey: true }), PLAIN), "undo");
  assert.equal(actionOf(pressed("z", { metaKey: true }), PLAIN), "undo");
});

test("keys without a meaning are left to the browser", () => {
  for (const key of ["1", "0", "x", "a", "Tab", "Enter", "z"]) assert.equal(actionOf(pressed(key), PLAIN), undefined);
  assert.equal(actionOf(pressed("l", { ctrlKey: true }), PLAIN), undefined); // the browser's address
  assert.equal(actionOf(pressed("1", { altKey: true }), PLAIN), undefined);
  assert.equal(actionOf(pressed("Z", { ctrlKey: true, shiftKey: true }), PLAIN), undefined); // redo
});

test("Escape clears a selection, and arrows go to the gallery where nothing has the focus", () => {
  assert.equal(actionOf(pressed("Escape"), PLAIN), undefined);
  assert.equal(actionOf(pressed("Escape"), { ...PLAIN, selected: true }), "clear");
  assert.equal(actionOf(pressed("ArrowDown"), PLAIN), undefined);
  assert.equal(actionOf(pressed("ArrowDown"), { ...PLAIN, onGallery: true }), "gallery");
});

test("decisions are about what is selected", () => {
  for (const key of ["a", "x", "u", "b", "1", "9"])
    assert.equal(actionOf(pressed(key), { ...PLAIN, selected: true }), "decide");
  assert.equal(actionOf(pressed("a", { ctrlKey: true }), { ...PLAIN, selected: true }), undefined);
});

test("under a dialog only undoing works", () => {
  const layered = { layered: true, selected: true, onGallery: true };
  for (const key of ["/", "?", "l", "1", "Escape", "ArrowUp"]) assert.equal(actionOf(pressed(key), layered), undefined);
  assert.equal(actionOf(pressed("z", { ctrlKey: true }), layered), "undo");
});
