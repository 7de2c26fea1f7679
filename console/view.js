// Small pieces of page. Text is always text: nothing here parses HTML, so no customer's name can run.
const SVG = "http://www.w3.org/2000/svg";

/** An element with attributes and children; "svg:" before the tag makes an SVG element. */
export function element(tag, attributes = {}, ...children) {
  const node = tag.startsWith("svg:") ? document.createElementNS(SVG, tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return node;
}

export const show = (parent, ...children) => parent.replaceChildren(...children);

export function table(heads, rows) {
  if (!rows.length) return element("p", { class: "quiet" }, "Nothing here yet.");
  return element("div", { class: "table" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((head) => element("th", { scope: "col" }, head)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell ?? "")))))));
}

/** What went wrong, what to do about it, and the id to quote. */
export const problem = (error) => element("p", { class: "problem", role: "alert" },
  [error.message, error.hint, error.request_id && `(request ${error.request_id})`].filter(Boolean).join(" "));

export const when = (iso) => (iso ? new Date(iso).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" }) : "");
export const number = (value) => (value ?? 0).toLocaleString();
export const duration = (seconds) => (seconds === null || seconds === undefined ? "" : `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`);
