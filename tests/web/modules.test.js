// @ts-check
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../birder/", import.meta.url));
const FOLDERS = ["web", "plots", "server/interface"];
const MODULES = FOLDERS.flatMap((folder) =>
  readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => name.endsWith(".js"))
    .map((name) => join(folder, name)),
);

/** @param {string} module */
const textOf = (module) => readFileSync(join(ROOT, module), "utf8");

/** @param {string} module */
function importsOf(module) {
  const found = textOf(module).matchAll(
    /^(?:import|export) [^;]*?from "([^"]+)";|^import "([^"]+)";|import\("([^"]+)"\)/gm,
  );
  return [...found].map((match) => {
    const name = match[1] ?? match[2] ?? match[3];
    assert.match(name, /^\.\.?\//, `${module} imports ${name}: the page has no dependencies`);
    return normalize(join(dirname(module), name));
  });
}

test("every module is checked by TypeScript", () => {
  assert.ok(MODULES.length > 40);
  for (const module of MODULES) assert.match(textOf(module), /^\/\/ @ts-check\n/, module);
});

test("every import leads to a module", () => {
  for (const module of MODULES)
    for (const imported of importsOf(module)) assert.ok(existsSync(join(ROOT, imported)), `${module}: ${imported}`);
});

test("no modules import each other in a circle", () => {
  /** @type {Set<string>} */
  const done = new Set();
  /**
   * @param {string} module
   * @param {string[]} importing
   */
  const visit = (module, importing) => {
    assert.ok(!importing.includes(module), [...importing, module].join(" -> "));
    if (done.has(module)) return;
    for (const imported of importsOf(module)) visit(imported, [...importing, module]);
    done.add(module);
  };
  for (const module of MODULES) visit(module, []);
});

test("every module of the page is used", () => {
  const used = new Set(["web/main.js", "plots/map_page.js", "plots/report_page.js", "server/interface/interface.js"]);
  for (const module of MODULES) for (const imported of importsOf(module)) used.add(imported);
  assert.deepEqual(
    MODULES.filter((module) => !used.has(module)),
    [],
  );
});

test("icons that are asked for are drawn", async () => {
  const { PATHS } = await import("../../birder/web/icons.js");
  for (const module of MODULES)
    for (const [, name] of textOf(module).matchAll(/\b(?:icon|iconButton|emptyState)\(\s*"([^"]+)"/g))
      assert.ok(name in PATHS, `${module}: ${name}`);
});
