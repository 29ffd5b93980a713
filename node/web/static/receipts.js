// Receipts: what state they are in, what they say, and having one checked by the second node.

import { events, get } from "./api.js";
import { $, h, hash, open } from "./dom.js";
import { read } from "./reader.js";

const states = { open: "signed", sent: "being settled", settled: "settled" };
const lines = new Map();
let checker = "";

export function watchReceipts(config) {
  checker = config.second_api ?? "";
  look();
  setInterval(look, 4000);
}

const chip = (state) => h("span", { class: `chip ${state}` }, states[state] ?? state);

/** A receipt's hash and state within an answer; the state is kept up to date. */
export function receiptLine(digest) {
  const state = h("span", {}, chip("open"));
  lines.set(digest, state);
  return h("span", {}, "receipt ", link(digest), " ", state);
}

const link = (digest) => h("button", { type: "button", class: "link", onclick: () => show(digest) }, hash(digest));

async function look() {
  let receipts;
  try { receipts = (await get("/v1/receipts")).data; } catch { return; }
  $("receipts").replaceChildren(...receipts.slice(0, 8).map((receipt) =>
    h("li", {}, link(receipt.hash), h("span", {}, open(receipt.fee_micro_open)), chip(receipt.state))));
  $("receipts-note").textContent = receipts.length ? "Anyone can have one re-done: open it."
    : "No answer was given yet. Each one leaves a signed receipt here.";
  for (const receipt of receipts) lines.get(receipt.hash)?.replaceChildren(chip(receipt.state));
}

function show(digest) {
  return read("Receipt", async () => {
    const found = await get(`/v1/receipts/${digest}`);
    const findings = h("ul", { class: "plain" });
    const button = h("button", { type: "button", onclick: () => check(digest, button, findings) },
      checker ? "Have the second node re-do it" : "Re-do it on this node");
    return [
      h("dl", {},
        h("dt", {}, "hash"), h("dd", {}, h("code", { class: "hash" }, digest)),
        h("dt", {}, "question"), h("dd", {}, found.messages.at(-1)?.content ?? ""),
        h("dt", {}, "answer"), h("dd", {}, found.text),
        h("dt", {}, "tokens"), h("dd", {}, `${found.prompt_tokens} in, ${found.output_tokens} out`),
        h("dt", {}, "fee"), h("dd", {}, open(found.fee_micro_open)),
        h("dt", {}, "state"), h("dd", {}, found.state ? chip(found.state) : "given by another node")),
      h("div", {}, button), findings,
      h("details", {}, h("summary", {}, "As signed (EIP-712)"), h("pre", {}, JSON.stringify({ message: found.receipt, signature: found.signature }, null, 1))),
      h("p", { class: "quiet" }, "At a terminal: ", h("code", {}, `openledger verify receipt ${digest}`)),
    ];
  });
}

async function check(digest, button, findings) {
  button.disabled = true;
  findings.replaceChildren();
  try {
    for await (const finding of events(`${checker}/v1/receipts/${digest}/audit`, {})) {
      findings.append(h("li", {}, h("span", {}, h("strong", {}, finding.name), " ", h("span", { class: "quiet" }, finding.detail)),
        h("span", {}), h("span", { class: finding.verdict }, finding.verdict)));
    }
  } catch (error) {
    findings.append(h("li", { class: "problem" }, error.message));
  }
  button.disabled = false;
}
