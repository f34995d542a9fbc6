// What the filters mean, as the SQL condition that the server takes.
//
// A filter is of one column: {column, values: [...], none: true} keeps the rows with one of the values, or with none;
// {column, contains: "owl"} keeps texts with a part; {column, type: "number" | "time", from, to} keeps a range.

const name = (column) => "`" + column.replaceAll("`", "``") + "`";
const text = (value) => `'${value.replaceAll("'", "''")}'`;
const pattern = (value) => `'%${value.replace(/[\\%_]/g, "\\$&").replaceAll("'", "''")}%' ESCAPE '\\'`;

/** The condition of one filter. */
export function conditionOf(filter) {
  const column = name(filter.column);
  const parts = [];
  if (filter.contains) parts.push(containing(column, filter));
  const choices = [];
  const values = filter.values ?? [];
  if (values.some((value) => typeof value === "boolean")) {
    choices.push(...values.map((value) => `${column} = ${value}`));
  } else if (values.length) choices.push(`${column} IN (${values.map(literal).join(", ")})`);
  if (filter.none) choices.push(`${column} IS NULL`);
  if (choices.length) parts.push(choices.length === 1 ? choices[0] : `(${choices.join(" OR ")})`);
  if (filter.from !== undefined) parts.push(`${column} >= ${bound(filter, filter.from)}`);
  if (filter.to !== undefined) parts.push(`${column} <= ${bound(filter, filter.to)}`);
  return parts.join(" AND ");
}

/** The condition of them all together; undefined without any. `except` leaves a column's own out, for its counts. */
export function where(filters, except = undefined) {
  const parts = filters
    .filter((filter) => filter.column !== except)
    .map(conditionOf)
    .filter(Boolean);
  return parts.length ? parts.map((part) => (parts.length > 1 ? `(${part})` : part)).join(" AND ") : undefined;
}

function containing(column, { column: plain, contains }) {
  const part = contains.toLowerCase();
  const encoded = encodeURI(contains).toLowerCase(); // in a uri "a frog" stands as a%20frog
  const one = `lower(${column}) LIKE ${pattern(part)}`;
  return plain === "uri" && encoded !== part ? `(${one} OR lower(${column}) LIKE ${pattern(encoded)})` : one;
}

const literal = (value) => (typeof value === "number" ? String(value) : text(String(value)));

const bound = ({ type }, value) =>
  type === "time" ? `timestamp ${text(String(value).replace("T", " "))}` : String(Number(value));

/** A filter in words, for its chip. */
export function words(filter) {
  const parts = [];
  if (filter.contains) parts.push(`contains “${filter.contains}”`);
  const values = (filter.values ?? []).map((value) =>
    value === true ? "yes" : value === false ? "no" : String(value),
  );
  if (filter.none) values.push("no value");
  if (values.length)
    parts.push(
      values.length > 3 ? `${values.slice(0, 2).join(", ")} and ${values.length - 2} more` : values.join(", "),
    );
  const short = (value) =>
    filter.type === "time"
      ? String(value)
          .slice(0, 16)
          .replace("T", " ")
          .replace(/ 00:00$/, "")
      : String(value);
  if (filter.from !== undefined && filter.to !== undefined) parts.push(`${short(filter.from)} to ${short(filter.to)}`);
  else if (filter.from !== undefined) parts.push(`from ${short(filter.from)}`);
  else if (filter.to !== undefined) parts.push(`up to ${short(filter.to)}`);
  return parts.join(", ");
}
