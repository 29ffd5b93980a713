// The services of this node and what each waits for.

import { $, h } from "./dom.js";

export function watchHealth() {
  look();
  setInterval(look, 4000);
}

async function look() {
  let found = null;
  try { found = await (await fetch("/health")).json(); } catch { /* shown as down */ }
  const services = Object.entries(found?.services ?? {});
  const waiting = services.filter(([, state]) => state !== "ready");
  $("health").querySelector(".dot").dataset.state = !found ? "down" : found.ready ? "ready" : "waiting";
  $("health-summary").textContent = !found ? "the node does not answer"
    : found.ready ? `all ${services.length} services ready` : `${waiting.length} of ${services.length} services not ready`;
  $("services").replaceChildren(...services.map(([name, state]) => h("li", {},
    h("span", { class: "dot", "data-state": state === "ready" ? "ready" : "waiting" }), h("span", {}, name),
    h("span", { class: "quiet" }, state))));
}
