// Shows the OpenAPI description of this server: every request, its parameters, body and answers. No other server is asked.

/** An element with attributes, and children that are elements or text; text never becomes markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const nameOf = (reference) => reference.split("/").pop();

/** A schema in a line: string, integer (1 to 1000), list of Photo, ... */
function kind(schema = {}) {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.anyOf) return schema.anyOf.map(kind).join(" or ");
  if (schema.allOf) return schema.allOf.map(kind).join(" and ");
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.type === "array") return `list of ${kind(schema.items)}`;
  if (schema.format === "binary" || schema.contentMediaType) return "file";
  const least = schema.minimum ?? schema.minLength;
  const most = schema.maximum ?? schema.maxLength;
  const range = least !== undefined || most !== undefined ? ` (${least ?? ""} to ${most ?? ""})` : "";
  return `${schema.type ?? "anything"}${range}`;
}

function fields(schema) {
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) =>
    row(name + (required.has(name) ? " *" : ""), kind(field), field.description, field.default));
  return rows.length ? make("table", {}, ...rows) : make("code", {}, kind(schema));
}

function row(name, type, description = "", standard = undefined) {
  const given = standard === undefined || standard === null || standard === "" ? "" : ` Without it: ${JSON.stringify(standard)}.`;
  return make("tr", {}, make("th", {}, make("code", {}, name)), make("td", {}, make("code", {}, type)), make("td", {}, (description ?? "") + given));
}

function operation(path, method, described, schemas) {
  const body = make("div", {}, make("p", {}, described.description ?? ""));
  const resolve = (schema) => (schema?.$ref ? schemas[nameOf(schema.$ref)] : schema) ?? {};
  if (described.parameters?.length) {
    body.append(make("h4", {}, "Parameters"), make("table", {}, ...described.parameters.map((parameter) =>
      row(parameter.name + (parameter.required ? " *" : ""), kind(parameter.schema), parameter.description, parameter.schema.default))));
  }
  for (const [media, content] of Object.entries(described.requestBody?.content ?? {})) {
    const schema = content.schema?.anyOf ? content.schema.anyOf.find((each) => each.$ref) ?? content.schema : content.schema;
    body.append(make("h4", {}, `Body: ${media}`), fields(resolve(schema)));
  }
  body.append(make("h4", {}, "Answers"));
  body.append(make("table", {}, ...Object.entries(described.responses).map(([status, answer]) =>
    row(status, Object.entries(answer.content ?? {}).map(([media, content]) =>
      content.schema?.$ref ? nameOf(content.schema.$ref) : media).join(", "), answer.description))));
  const good = Object.entries(described.responses).find(([status]) => status.startsWith("2"))?.[1];
  const schema = resolve(good?.content?.["application/json"]?.schema);
  if (schema.properties) body.append(make("h4", {}, "Fields of the answer"), fields(schema));
  return make("details", {},
    make("summary", {}, make("span", { class: "method" }, method.toUpperCase()), make("code", {}, path), " ",
      make("span", { class: "what" }, described.summary ?? "")),
    body);
}

async function show() {
  const main = document.getElementById("main");
  const response = await fetch("/api/v1/openapi.json");
  if (!response.ok) {
    main.replaceChildren(make("p", {}, `The server answered ${response.status}. Open the address that birder serve printed.`));
    return;
  }
  const described = await response.json();
  const schemas = described.components?.schemas ?? {};
  const parts = [make("h1", {}, `${described.info.title} ${described.info.version}`), make("p", {}, described.info.description ?? ""),
    make("p", {}, "The description itself: ", make("a", { href: "/api/v1/openapi.json" }, "/api/v1/openapi.json"))];
  const byTag = new Map();
  for (const [path, methods] of Object.entries(described.paths)) {
    for (const [method, each] of Object.entries(methods)) {
      const tag = each.tags?.[0] ?? "other";
      byTag.set(tag, [...(byTag.get(tag) ?? []), operation(path, method, each, schemas)]);
    }
  }
  for (const [tag, operations] of byTag) parts.push(make("h2", {}, tag), ...operations);
  parts.push(make("h2", {}, "types"));
  for (const [name, schema] of Object.entries(schemas)) {
    parts.push(make("details", {}, make("summary", {}, make("code", {}, name), " ", make("span", { class: "what" }, schema.description ?? "")),
      make("div", {}, fields(schema))));
  }
  main.replaceChildren(...parts);
}

show();
