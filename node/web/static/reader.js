// The dialog in which documents and receipts are read.

import { get, getText } from "./api.js";
import { $, h, hash } from "./dom.js";

/** Open the dialog with a title and what `fill` (async, gives nodes) finds. */
export async function read(title, fill) {
  $("reader-title").textContent = title;
  $("reader-body").replaceChildren(h("p", { class: "quiet" }, "loading"));
  if (!$("reader").open) $("reader").showModal();
  try {
    $("reader-body").replaceChildren(...(await fill()));
    $("reader-body").querySelector("mark")?.scrollIntoView({ block: "center" });
  } catch (error) {
    $("reader-body").replaceChildren(h("p", { class: "problem" }, error.message));
  }
}

/** Open the document of a contribution, at `passage` where that is given. */
export function readContribution(number, title, passage) {
  return read(title || `Contribution ${number}`, async () => {
    const about = await get(`/v1/contributions/${number}`);
    const text = await getText(`/v1/content/${about.document_hash}`);
    const licence = about.metadata?.license;
    return [
      h("p", { class: "quiet" }, `contribution ${number} to Datanet ${about.datanet} by `, hash(about.contributor),
        licence ? `, ${licence}` : "", ", content ", hash(about.document_hash)),
      h("p", { class: "document" }, ...marked(text, passage)),
    ];
  });
}

/** The text with the passage marked; a passage is found whatever white space stands between its words. */
function marked(text, passage) {
  const words = (passage ?? "").split(/\s+/).filter(Boolean).map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const found = words.length ? new RegExp(words.join("\\s+")).exec(text) : null;
  if (!found) return [text];
  return [text.slice(0, found.index), h("mark", {}, found[0]), text.slice(found.index + found[0].length)];
}
