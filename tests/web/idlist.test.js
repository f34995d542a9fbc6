// @ts-check
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import { TextList, UuidList } from "../../birder/web/idlist.js";

const IDS = Array.from({ length: 3000 }, () => randomUUID());

/** @param {string[]} ids */
const bytesOf = (ids) => new Uint8Array(Buffer.from(ids.join("").replaceAll("-", ""), "hex")).buffer;

for (const [kind, list] of /** @type {const} */ ([
  ["bytes", new UuidList(bytesOf(IDS))],
  ["strings", new TextList(IDS)],
])) {
  test(`ids that are kept as ${kind} are the same ids, in their order`, () => {
    assert.equal(list.length, IDS.length);
    assert.deepEqual(list.slice(), IDS);
    assert.deepEqual(list.slice(7, 9), IDS.slice(7, 9));
    assert.deepEqual(list.slice(2998, Infinity), IDS.slice(2998));
    assert.equal(list.at(2999), IDS[2999]);
    assert.deepEqual(
      IDS.map((id) => list.indexOf(id)),
      IDS.map((_, index) => index),
    );
    for (const other of [randomUUID(), "row 7", "", IDS[0].toUpperCase()]) assert.equal(list.indexOf(other), -1);
  });

  test(`others are found among ${kind}, however they are kept`, () => {
    const others = [IDS[5], randomUUID(), IDS[0], IDS[2999]];
    assert.deepEqual([...list.indicesOf(new UuidList(bytesOf(others)))], [5, 0, 2999]);
    assert.deepEqual([...list.indicesOf(new TextList([...others, "row 7"]))], [5, 0, 2999]);
  });
}

test("a list may be empty", () => {
  const list = new UuidList(new ArrayBuffer(0));
  assert.equal(list.length, 0);
  assert.deepEqual(list.slice(), []);
  assert.equal(list.indexOf(IDS[0]), -1);
  assert.equal(list.indicesOf(new TextList(IDS)).length, 0);
});
