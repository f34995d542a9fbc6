// @ts-check
import assert from "node:assert/strict";
import { webcrypto } from "node:crypto";
import { test } from "node:test";
import { newId } from "../../birder/web/ids.js";
import { objection, summary } from "../../birder/web/labeltext.js";

if (!globalThis.crypto) Object.assign(globalThis, { crypto: webcrypto }); // Node 18 has it elsewhere

test("a label has up to 300 characters, composed and beyond the first plane", () => {
  assert.equal(objection("x".repeat(300)), "");
  assert.match(objection("x".repeat(301)), /up to 300 characters; this one has 301/);
  assert.equal(objection("🦉".repeat(300)), "");
  assert.equal(objection("e\u0301".repeat(300)), ""); // é
});

test("what labels did is said with their column and value", () => {
  const owl = { ids: ["a"], column: "label", value: "owl" };
  assert.equal(summary([owl], 1), "1 image: label is now “owl”");
  assert.equal(summary([{ ...owl, value: null }], 3), "Removed label from 3 images");
  assert.equal(summary([owl, { ...owl, value: "fox" }], 5), "5 images: label now has 2 values");
});

test("ids are random UUIDs of version 4", () => {
  const ids = Array.from({ length: 100 }, newId);
  for (const id of ids) assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  assert.equal(new Set(ids).size, 100);
});
