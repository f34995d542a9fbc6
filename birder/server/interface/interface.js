// @ts-check
// Shows the OpenAPI description of this server: every request, its parameters, body and answers. No other server is asked.

/**
 * A schema of OpenAPI, as far as this server uses it.
 * @typedef {object} Schema
 * @property {string} [$ref]
 * @property {Schema[]} [anyOf]
 * @property {Schema[]} [allOf]
 * @property {unknown[]} [enum]
 * @property {unknown} [const]
 * @property {string} [type]
 * @property {Schema} [items]
 * @property {string} [format]
 * @property {string} [contentMediaType]
 * @property {number} [minimum]
 * @property {number} [maximum]
 * @property {number} [minLength]
 * @property {number} [maxLength]
 * @property {Record<string, Schema>} [properties]
 * @property {string[]} [required]
 * @property {string} [description]
 * @property {unknown} [default]
 */
/** @typedef {Record<string, {schema?: Schema}>} Content by media type */
/**
 * @typedef {object} Operation
 * @property {string[]} [tags]
 * @property {string} [summary]
 * @property {string} [description]
 * @property {{name: string, required?: boolean, description?: string, schema: Schema}[]} [parameters]
 * @property {{content?: Content}} [requestBody]
 * @property {Record<string, {description?: string, content?: Content}>} responses
 */
/**
 * @typedef {object} Description
 * @property {{title: string, version: string, description?: string}} info
 * @property {Record<string, Record<string, Operation>>} paths
 * @property {{schemas?: Record<string, Schema>}} [components]
 */

/**
 * An element with attributes, and children that are elements or text; text never becomes markup.
 * @param {string} tag
 * @param {Record<string, string>} attributes
 * @param {(Node | string)[]} children
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {string} reference */
const nameOf = (reference) => reference.split("/").at(-1) ?? reference;

/**
 * A schema in a line: string, integer (1 to 1000), list of Photo, ...
 * @param {Schema} schema
 * @returns {string}
 */
function kindOf(schema = {}) {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(kindOf).join(" or ");
  if (schema.allOf) return schema.allOf.map(kindOf).join(" and ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kindOf(schema.items)}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  const least = schema.minimum ?? schema.minLength;
  const most = schema.maximum ?? schema.maxLength;
  const range = least !== undefined || most !== undefined ? ` (${least ?? ""} to ${most ?? ""})` : "";
  return `${schema.type ?? "anything"}${range}`;
}

/** @param {Schema} schema */
function fieldsOf(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    row(name + (required.has(name) ? " *" : ""), kindOf(field), field.description, field.default),
  );
  return rows.length ? make("table", {}, ...rows) : make("code", {}, kindOf(schema));
}

/**
 * @param {string} name
 * @param {string} kind
 * @param {string} [description]
 * @param {unknown} [standard] the default
 */
function row(name, kind, description = "", standard = undefined) {
  const none = standard === undefined || standard === null || standard === "";
  const text = none ? description : `${description} Default: ${JSON.stringify(standard)}.`.trim();
  const cell = make("td", {}, make("code", {}, kind));
  return make("tr", {}, make("th", {}, make("code", {}, name)), cell, make("td", {}, text));
}

/**
 * @param {string} path
 * @param {string} method
 * @param {Operation} operation
 * @param {Record<string, Schema>} schemas
 */
function operationOf(path, method, operation, schemas) {
  /** @param {Schema} [schema] */
  const resolve = (schema) => (schema?.$ref ? schemas[nameOf(schema.$ref)] : schema) ?? {};
  const body = make("div", {}, make("p", {}, operation.description ?? ""));
  if (operation.parameters?.length) {
    const rows = operation.parameters.map(({ name, required, schema, description }) =>
      row(name + (required ? " *" : ""), kindOf(schema), description, schema.default),
    );
    body.append(make("h4", {}, "Parameters"), make("table", {}, ...rows));
  }
  for (const [media, { schema }] of Object.entries(operation.requestBody?.content ?? {})) {
    const named = schema?.anyOf?.find((each) => each.$ref) ?? schema;
    body.append(make("h4", {}, `Body: ${media}`), fieldsOf(resolve(named)));
  }
  const answers = Object.entries(operation.responses).map(([status, { content, description }]) => {
    const kinds = Object.entries(content ?? {}).map(([media, { schema }]) =>
      schema?.$ref ? nameOf(schema.$ref) : media,
    );
    return row(status, kinds.join(", "), description);
  });
  body.append(make("h4", {}, "Answers"), make("table", {}, ...answers));
  const good = Object.entries(operation.responses).find(([status]) => status.startsWith("2"))?.[1];
  const schema = resolve(good?.content?.["application/json"]?.schema);
  if (schema.properties) body.append(make("h4", {}, "Fields of the answer"), fieldsOf(schema));
  const summary = make(
    "summary",
    {},
    make("span", { class: "method" }, method.toUpperCase()),
    make("code", {}, path),
    " ",
    make("span", { class: "what" }, operation.summary ?? ""),
  );
  return make("details", {}, summary, body);
}

/**
 * @param {string} name
 * @param {Schema} schema
 */
function typeOf(name, schema) {
  const what = make("span", { class: "what" }, schema.description ?? "");
  const summary = make("summary", {}, make("code", {}, name), " ", what);
  return make("details", {}, summary, make("div", {}, fieldsOf(schema)));
}

/** @param {Description} description */
function draw({ info, paths, components }) {
  const schemas = components?.schemas ?? {};
  const source = make("a", { href: "/api/v1/openapi.json" }, "/api/v1/openapi.json");
  const parts = [
    make("h1", {}, `${info.title} ${info.version}`),
    make("p", {}, info.description ?? ""),
    make("p", {}, "The description itself: ", source),
  ];
  /** @type {Map<string, HTMLElement[]>} */
  const byTag = new Map();
  for (const [path, methods] of Object.entries(paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const tag = operation.tags?.[0] ?? "other";
      byTag.set(tag, [...(byTag.get(tag) ?? []), operationOf(path, method, operation, schemas)]);
    }
  }
  for (const [tag, operations] of byTag) parts.push(make("h2", {}, tag), ...operations);
  parts.push(make("h2", {}, "types"));
  for (const [name, schema] of Object.entries(schemas)) parts.push(typeOf(name, schema));
  return parts;
}

async function show() {
  const main = document.querySelector("main");
  const response = await fetch("/api/v1/openapi.json");
  if (response.ok) main?.replaceChildren(...draw(await response.json()));
  else {
    const text = `The server answered ${response.status}. Open the address that birder serve printed.`;
    main?.replaceChildren(make("p", {}, text));
  }
}

show();
