// Receipts: what state they are in, what they say, and having one checked by the second node.

import { events, get } from "./api.js";
import { $, h, hash, open } from "./dom.js";
import { read, readContribution } from "./reader.js";

const states = { open: "signed", sent: "being settled", settled: "settled" };
const kinds = { spans: "words", retrieval: "passages", influence: "influence" };
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
        h("dt", {}, "question"), h("dd", {}, found.messages.at(-1)?.content ?? String(found.prompt ?? "")),
        h("dt", {}, "answer"), h("dd", {}, found.text),
        h("dt", {}, "tokens"), h("dd", {}, `${found.prompt_tokens} in, ${found.output_tokens} out`),
        h("dt", {}, "mode"), h("dd", {}, found.marks.tokens === "exact" ? "exact: anyone can recompute every token"
          : "attested: its tokens cannot be recomputed, only its activations compared"),
        h("dt", {}, "fee"), h("dd", {}, open(found.fee_micro_open)),
        h("dt", {}, "state"), h("dd", {}, found.state ? chip(found.state) : "given by another node")),
      ...(await why(digest)),
      h("div", {}, button), findings,
      h("details", {}, h("summary", {}, "As signed (EIP-712)"), h("pre", {}, JSON.stringify({ message: found.receipt, signature: found.signature }, null, 1))),
      h("p", { class: "quiet" }, "At a terminal: ", h("code", {}, `openledger verify receipt ${digest}`)),
    ];
  });
}

/** Why it paid whom: the answer with the words that stand in the data marked, and what each contribution earned. */
async function why(digest) {
  let told;
  try { told = await get(`/v1/receipts/${digest}/explanation`); } catch (error) { return [h("p", { class: "quiet" }, error.message)]; }
  const place = new Map(told.contributions.map((share, number) => [share.contribution, number % 6]));
  const piece = ({ text, spans }) => {
    const holder = spans.flatMap((number) => told.spans[number].contributions).find((number) => place.has(number));
    if (holder === undefined) return spans.length ? h("mark", { class: "common", title: "common language: too many hold it" }, text) : text;
    const bits = Math.max(...spans.map((number) => told.spans[number].bits));
    return h("mark", { class: `source-${place.get(holder)}`, title: `contribution ${holder}, ${bits.toFixed(1)} bits` }, text);
  };
  const share = (part, number) => h("li", {},
    h("button", { type: "button", class: "link", onclick: () => readContribution(part.contribution, part.metadata?.title) },
      h("mark", { class: `source-${number % 6}` }, `${part.contribution}`), " ", part.metadata?.title ?? ""),
    h("span", { class: "quiet" }, Object.entries(part.by_kind_ppm).filter(([, ppm]) => ppm)
      .map(([kind, ppm]) => `${kinds[kind] ?? kind} ${(ppm / 1e4).toFixed(1)} %`).join(", ")),
    h("span", {}, `${(part.weight / 100).toFixed(2)} %, ${open(part.micro_open)}`));
  return [
    h("h3", {}, "Why it paid whom"),
    h("p", { class: "document" }, ...(told.pieces.length ? told.pieces.map(piece) : [told.text])),
    told.contributions.length ? h("ul", { class: "plain" }, ...told.contributions.map(share))
      : h("p", { class: "quiet" }, "Nothing was found: the contributors' part goes to the release's Datanets by their tokens."),
  ];
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
