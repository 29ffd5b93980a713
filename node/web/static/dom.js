// Making elements and showing values. Text only ever enters the page as text, never as markup.

export const $ = (id) => document.getElementById(id);

/** An element: h("p", {class: "quiet", onclick: f}, "text", child, …). Children that are null are left out. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const short = (hex) => (hex.length > 14 ? `${hex.slice(0, 8)}…${hex.slice(-4)}` : hex);
export const hash = (hex) => h("code", { class: "hash", title: hex }, short(hex));

/** Micro-OPEN as a number of OPEN for people. */
export function amount(micro) {
  const [whole, part] = (Number(micro) / 1e6).toFixed(6).split(".");
  return `${Number(whole).toLocaleString("en")}.${part.replace(/0{1,4}$/, "")}`;
}

export const open = (micro) => `${amount(micro)} OPEN`;

export const percent = (weight) => `${(weight / 100).toFixed(weight % 100 ? 2 : 0)} %`;

/** Show a problem in words below what it concerns; null takes it away. */
export function problem(id, text) {
  $(id).hidden = !text;
  $(id).textContent = text ?? "";
}
