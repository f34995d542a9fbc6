// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { address, isSearch, read } from "../../birder/web/address.js";

test("the address of the start is short, and an empty address is the start", () => {
  const start = read("");
  assert.equal(address(start), "#gallery");
  assert.deepEqual(read("#gallery"), start);
  assert.equal(start.threshold, 0.97);
});

test("a state survives its address", () => {
  const state = {
    ...read(""),
    view: "map",
    filters: [
      { column: "Temp C", type: /** @type {const} */ ("number"), from: -1, to: 5 },
      { column: "label", values: ["a&b=c", "ö"], none: true },
      { column: "uri", contains: "#?" },
    ],
    texts: ["an owl", "in a tree"],
    like: ["id1", "id2"],
    unlike: ["id3"],
    queryImage: "12",
    subset: "act x",
    order: "-taken_at",
    photo: "p",
    teachOrder: "useful",
    threshold: 0.9,
  };
  assert.deepEqual(read(address(state)), state);
});

test("what an address cannot mean is left out", () => {
  const state = read("#nothing?threshold=7&q=&sort=");
  assert.equal(state.view, "gallery");
  assert.equal(state.threshold, 0.97);
  assert.deepEqual(state.texts, []);
  const filters = [
    "not json",
    '{"values":["x"]}',
    '{"column":"a","type":"number","from":"1; DROP","to":2}',
    '{"column":"b","type":"sql","from":"x"}',
    '{"column":"c","values":["x",{"y":1},null,3,true],"none":"yes","contains":7}',
  ];
  const query = new URLSearchParams(filters.map((filter) => ["filter", filter]));
  assert.deepEqual(read(`#gallery?${query}`).filters, [
    { column: "a", type: "number", to: 2 },
    { column: "b" },
    { column: "c", values: ["x", 3, true] },
  ]);
});

test("words, images and what they should be unlike make a search; filters do not", () => {
  const start = read("");
  assert.equal(isSearch(start), false);
  assert.equal(isSearch({ ...start, filters: [{ column: "label", none: true }] }), false);
  for (const query of [{ texts: ["x"] }, { like: ["x"] }, { unlike: ["x"] }, { queryImage: "1" }])
    assert.equal(isSearch({ ...start, ...query }), true);
});
