// The interface in words, out of openapi.json.

const page = document.getElementById("routes");
for (const place of document.querySelectorAll("[data-base]")) {
  place.textContent = new URL(".", location.href).href;
}

function element(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

function typeOf(schema) {
  if (schema.$ref) return schema.$ref.split("/").pop();
  const either = schema.anyOf ?? schema.oneOf;
  if (either) return either.map(typeOf).filter((name) => name !== "null").join(" or ");
  if (schema.type === "array") return `list of ${schema.items ? typeOf(schema.items) : "values"}`;
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(", ");
  return schema.type ?? "any";
}

function table(schema) {
  const rows = Object.entries(schema.properties ?? {}).map(([name, field]) => {
    const given = "default" in field && field.default !== null;
    const notes = [field.description, given ? `default ${field.default}` : null];
    return element("tr", "", element("td", "", element("code", name)), element("td", typeOf(field)),
      element("td", notes.filter(Boolean).join(" ")));
  });
  return element("table", "", ...rows);
}

const api = await (await fetch("openapi.json")).json();
const schemas = api.components?.schemas ?? {};
const parts = [];
for (const [path, methods] of Object.entries(api.paths)) {
  for (const [method, route] of Object.entries(methods)) {
    parts.push(element("h2", `${method.toUpperCase()} ${path}`), element("p", route.summary ?? ""));
    const body = Object.entries(route.requestBody?.content ?? {});
    if (body.length) {
      const [, { schema }] = body[0];
      parts.push(element("p", `Takes ${body.map(([kind]) => kind).join(" or ")}:`));
      parts.push(table(schemas[schema.$ref?.split("/").pop()] ?? schema));
    }
    const answer = route.responses?.["200"]?.content?.["application/json"]?.schema;
    if (answer && typeOf(answer) !== "any") parts.push(element("p", `Gives ${typeOf(answer)}`));
  }
}
parts.push(element("h2", "What they are made of"));
for (const [name, schema] of Object.entries(schemas)) {
  if (!schema.properties) continue;
  parts.push(element("h3", name), element("p", schema.description ?? ""), table(schema));
}
page.replaceChildren(...parts);
