// Asking, the answer as it comes, and what proves it: sources, shares, fee, receipt.

import { events, get, Refused } from "./api.js";
import { $, h, open, percent, problem } from "./dom.js";
import { connectWallet, developmentPayer } from "./payment.js";
import { readContribution } from "./reader.js";
import { receiptLine } from "./receipts.js";

// A small model answers from few passages better than from many.
const PASSAGES = 2;
let payer = null;
let running = null;

export function startChat(config, rpc) {
  payer = developmentPayer(config);
  showPayer(config, rpc);
  loadModels();
  setInterval(loadModels, 5000);
  $("question").addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  $("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); $("question").requestSubmit(); }
  });
  $("stop").addEventListener("click", () => running?.abort());
}

function showPayer(config, rpc) {
  const connect = window.ethereum && h("button", {
    type: "button", class: "link",
    onclick: async () => {
      try {
        payer = await connectWallet(config, rpc);
        showPayer(config, rpc);
      } catch (error) {
        problem("ask-problem", `the wallet was not connected: ${error.message}`);
      }
    },
  }, payer ? "Pay with your wallet instead" : "Connect a wallet");
  const text = payer ? `Paid from a channel of ${payer.name}. ` : "To ask, pay from a wallet in this browser. ";
  $("payer").replaceChildren(text, connect || (payer ? "" : "There is none in this browser."));
}

async function loadModels() {
  let models;
  try {
    models = (await get("/v1/models")).data.filter((model) => model.openledger.release);
  } catch (error) {
    $("model").replaceChildren(h("option", { value: "" }, "none"));
    $("send").disabled = true;
    if (error instanceof Refused && error.status === 404) problem("ask-problem", "This node does not run the model: ask a serving node.");
    else problem("ask-problem", error.message);
    return;
  }
  if ($("ask-problem").dataset.from !== "answer") problem("ask-problem", null);
  const shown = models.map((model) => model.id);
  $("send").disabled = running !== null || !shown.length;
  if (!shown.length) return $("model").replaceChildren(h("option", { value: "" }, "no release is served yet"));
  if ([...$("model").options].map((option) => option.value).join() === shown.join()) return;
  const chosen = $("model").value;
  $("model").replaceChildren(...models.map((model) => h("option", {
    value: model.id, selected: model.id === chosen,
    title: `${open(model.openledger.price_out_micro_open_per_1000)} for 1,000 tokens out`,
  }, model.openledger.mode === "attested" ? `${model.id} (attested)` : model.id)));
}

function busy(controller) {
  running = controller;
  $("send").disabled = controller !== null;
  $("stop").hidden = controller === null;
}

async function submit() {
  const question = $("text").value.trim();
  if (!question || running) return;
  if (!payer) return say("Answers are paid for: connect a wallet first.");
  say(null);
  const body = {
    model: $("model").value, messages: [{ role: "user", content: question }], temperature: 0,
    max_tokens: Number($("most").value), openledger: { passages: PASSAGES },
  };
  const answer = h("p", { class: "answer running" });
  const item = h("li", {}, h("p", { class: "question" }, question), answer);
  const controller = new AbortController();
  busy(controller);
  $("answers").append(item);
  item.scrollIntoView({ block: "nearest" });
  try {
    const end = await stream(body, controller.signal, (text) => answer.append(text));
    $("text").value = "";
    item.append(evidence(end));
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (!answer.textContent) item.remove();
    say(stopped ? "Stopped; nothing is owed for an answer that was not finished." : error.message);
  } finally {
    answer.classList.remove("running");
    busy(null);
  }
}

function say(text) {
  $("ask-problem").dataset.from = text ? "answer" : "";
  problem("ask-problem", text);
}

/** Ask, paying what the node says the call can cost; gives the `openledger` part of the answer. */
async function stream(body, signal, onText) {
  let most = await quote(body);
  for (let tries = 0; tries < 4; tries++) {
    const voucher = await payer.voucher(most);
    const header = JSON.stringify({ channelId: voucher.channelId, maxClaimable: voucher.maxClaimable, signature: voucher.signature });
    try {
      let end = null;
      for await (const event of events("/v1/chat/completions", { ...body, stream: true }, { headers: { "x-payment": header }, signal })) {
        for (const choice of event.choices) if (choice.delta.content) onText(choice.delta.content);
        end = event.openledger ?? end;
      }
      if (!end) throw new Error("the answer broke off before its receipt: nothing is owed for it");
      return end;
    } catch (error) {
      const needed = error.answer?.accepts?.[0]?.extra?.minimumMaxClaimable;
      if (!["voucher_too_small", "replayed_voucher"].includes(error.code) || !needed) throw error;
      most += Math.max(0, Number(needed) - Number(voucher.maxClaimable));
    }
  }
  throw new Error("the provider keeps asking for larger vouchers: try again");
}

/** The most that a call can cost, in micro-OPEN: what the node's 402 says. */
async function quote(body) {
  try {
    for await (const _ of events("/v1/chat/completions", { ...body, stream: true })) break;
  } catch (error) {
    const needed = error.answer?.accepts?.[0]?.extra?.minimumMaxClaimable;
    if (error.code !== "payment_required" || !needed) throw error;
    return Number(needed);
  }
  return 0;
}

function evidence(end) {
  const titles = new Map(end.citations.map((citation) => [citation.contribution, citation.title]));
  return h("div", { class: "evidence" },
    end.citations.length ? h("ol", { class: "sources", "aria-label": "Sources" }, end.citations.map((citation) => h("li", {},
      h("span", { class: "number" }, `[${citation.number}]`),
      h("button", { type: "button", class: "link", onclick: () => readContribution(citation.contribution, citation.title, citation.text) },
        citation.title || `contribution ${citation.contribution}`)))) : null,
    end.vector.length ? h("ul", { class: "shares", "aria-label": "Whose documents are paid" }, end.vector.map((entry) => share(entry, titles)))
      : h("p", { class: "quiet" }, "Nothing of this answer was found in the documents: the contributors' part goes to the release's Datanets."),
    h("div", { class: "facts" }, h("span", {}, `fee ${open(end.fee_micro_open)}`), receiptLine(end.receipt_hash)));
}

function share(entry, titles) {
  const fill = h("span", { class: "fill" });
  fill.style.width = `${entry.weight / 100}%`;
  const name = titles.get(entry.contribution);
  const who = h("span", { class: "who" }, h("button", { type: "button", class: "link", onclick: () => readContribution(entry.contribution, name) },
    name ? `${name} (contribution ${entry.contribution})` : `contribution ${entry.contribution}`));
  return h("li", {}, h("span", { class: "weight" }, percent(entry.weight)), h("span", { class: "bar" }, fill, who));
}
