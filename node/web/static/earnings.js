// What each contributor earned.

import { get } from "./api.js";
import { $, amount, h, hash } from "./dom.js";
import { readContribution } from "./reader.js";

let asked = 0;

/** Look again, at most every three seconds. */
export async function showEarnings() {
  if (Date.now() - asked < 3000) return;
  asked = Date.now();
  let people;
  try { people = (await get("/v1/contributors")).data; } catch (error) {
    $("earnings-note").textContent = error.message;
    return;
  }
  const total = (person) => person.claimable_micro_open + person.pending_micro_open + person.claimed_micro_open;
  people.sort((a, b) => total(b) - total(a));
  $("earnings").hidden = !people.length;
  $("earnings").tBodies[0].replaceChildren(...people.map((person) => h("tr", {},
    h("td", {}, hash(person.address)),
    h("td", {}, documents(person.contributions)),
    ...[person.claimable_micro_open, person.pending_micro_open, person.claimed_micro_open].map((micro) =>
      h("td", {}, micro ? amount(micro) : "—")))));
  $("earnings-note").replaceChildren(...(people.length ? []
    : ["Nobody has contributed yet: ", h("code", {}, "openledger quickstart"), " tells the whole story on this node."]));
}

function documents(contributions) {
  return contributions.slice(0, 6).map((entry, index) => [index ? " " : "", h("button", {
    type: "button", class: "link", title: `read contribution ${entry.contribution} (${entry.status})`,
    onclick: () => readContribution(entry.contribution),
  }, `${entry.contribution}`)]).flat().concat(contributions.length > 6 ? [` and ${contributions.length - 6} more`] : []);
}
