// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { TextList } from "../../birder/web/idlist.js";
import { tellAll } from "../../birder/web/signals.js";
import { List, Pages } from "../../birder/web/sources.js";

/** @import {Photo} from "../../birder/web/types.js" */

const TOTAL = 50_000;

/**
 * @param {number} index
 * @returns {Photo}
 */
const photo = (index) => ({ id: `id${index}`, name: "", label: null, width: null, height: null, v: "" });
const settled = () => new Promise((resolve) => setImmediate(resolve));

function newPages() {
  /** @type {{offset: number, signal: AbortSignal}[]} */
  const asked = [];
  let askedIds = 0;
  const pages = new Pages(
    async (offset, limit, signal) => {
      asked.push({ offset, signal });
      const length = Math.min(limit, TOTAL - offset);
      return { photos: Array.from({ length }, (_, index) => photo(offset + index)), total: TOTAL };
    },
    async () => {
      askedIds++;
      return new TextList(Array.from({ length: TOTAL }, (_, index) => `id${index}`));
    },
  );
  return { pages, asked, askedIds: () => askedIds };
}

test("pages are fetched where they are needed, once", async () => {
  const { pages, asked } = newPages();
  await pages.open(1234);
  assert.equal(pages.total, TOTAL);
  assert.equal(pages.at(1234)?.id, "id1234");
  assert.equal(pages.at(1)?.id, undefined);
  pages.need(1190, 1210);
  pages.need(1190, 1210);
  await settled();
  assert.deepEqual(
    asked.map(({ offset }) => offset),
    [1200, 1000],
  );
  assert.equal(pages.at(1199)?.id, "id1199");
});

test("requests for what was scrolled past are given up", async () => {
  const { pages, asked } = newPages();
  pages.need(0, 10);
  pages.need(40_000, 40_010);
  assert.deepEqual(
    asked.map(({ signal }) => signal.aborted),
    [true, false],
  );
  pages.close();
  assert.deepEqual(
    asked.map(({ signal }) => signal.aborted),
    [true, true],
  );
});

test("memory is bounded: pages that were not seen for long are dropped", async () => {
  const { pages } = newPages();
  for (let page = 0; page < 100; page++) {
    pages.need(200 * page, 200 * page + 1);
    await settled();
  }
  assert.equal([...pages.known()].length, 80 * 200);
  assert.equal(pages.at(0), undefined);
  assert.equal(pages.at(99 * 200)?.id, "id19800");
});

test("ids come from the pages that are there, or from one request for all", async () => {
  const { pages, askedIds } = newPages();
  await pages.open(0);
  assert.deepEqual(await pages.ids(3, 5), ["id3", "id4", "id5"]);
  assert.equal(askedIds(), 0);
  assert.deepEqual(await pages.ids(198, 201), ["id198", "id199", "id200", "id201"]);
  assert.equal((await pages.ids()).length, TOTAL);
  assert.deepEqual(await pages.among(["id5", "id49999", "nothing"]), ["id5", "id49999"]);
  assert.equal(askedIds(), 1);
});

test("a request for all ids that failed is made again", async () => {
  let attempts = 0;
  const pages = new Pages(
    async () => ({ photos: [photo(0)], total: 300 }),
    async () => {
      if (attempts++ === 0) throw new Error("away");
      return new TextList(["id0", "id1"]);
    },
  );
  await pages.open();
  await assert.rejects(pages.ids(), /away/);
  assert.deepEqual(await pages.ids(0, 0), ["id0"]);
  assert.deepEqual(await pages.ids(), ["id0", "id1"]);
});

test("a list has all its images, and shows their new labels", async () => {
  const list = new List([photo(0), photo(1)]);
  let changes = 0;
  list.onchange = () => changes++;
  list.patch(["id1", "other"], { label: "owl" });
  assert.deepEqual([list.at(0)?.label, list.at(1)?.label, changes], [null, "owl", 1]);
  assert.equal(list.at(-1), undefined);
  assert.deepEqual(await list.ids(1), ["id1"]);
  assert.deepEqual(await list.among(["id1", "x"]), ["id1"]);
  list.close();
  list.patch(["id0"], { label: "fox" });
  assert.equal(changes, 1);
});

test("what is labelled while it is on its way is asked for again", async (context) => {
  /** @type {((label: string | null) => void)[]} */
  const answers = [];
  context.mock.method(
    globalThis,
    "fetch",
    () =>
      new Promise((resolve) => {
        answers.push((label) => resolve(Response.json({ photos: [{ ...photo(1), label }] })));
      }),
  );
  /** @type {(photos: Photo[]) => void} */
  let come = () => {};
  const pages = new Pages(
    () => new Promise((resolve) => (come = (photos) => resolve({ photos, total: 2 }))),
    async () => new TextList([]),
  );
  const opened = pages.open();
  tellAll("labels", { ids: ["id1", "id9"], column: "label", value: "fox" });
  come([photo(0), photo(1)]);
  await opened;
  tellAll("labels", { ids: ["id1"], column: "label", value: "hare" });
  assert.equal(answers.length, 1, "one question, for the image of this page");
  answers[0]("fox");
  await settled();
  assert.equal(pages.at(1)?.label, "fox");
  answers[1]("hare");
  await settled();
  assert.equal(pages.at(1)?.label, "hare");
  assert.equal(answers.length, 2);
});
