// Heads as they come: unsafe, safe and finalized, on this node and on the second one, and the latest blocks.

import { $, h, hash, problem } from "./dom.js";
import { Rpc } from "./rpc.js";

const SHOWN = 48;
const blocks = new Map();
const labels = { unsafe: "unsafe_l2", safe: "safe_l2", finalized: "finalized_l2" };
let own = null;

/** Begin. `onBlock(number)` is called for every new head of this node. Gives the connection of this node. */
export function watchChain(config, onBlock) {
  const first = new Rpc(config.rpc, (head) => { seen(head); onBlock(Number(head.number)); status(first, 1); },
    (up) => {
      problem("chain-problem", up ? null : `no connection to ${config.rpc}: trying again. `
        + "A page of another origin must be listed in cors_origins.");
      if (up) { status(first, 1); fill(first); }
    });
  setInterval(() => status(first, 1), 4000);
  if (config.second_rpc) {
    const second = new Rpc(config.second_rpc, () => status(second, 2), (up) => (up ? status(second, 2) : lost(2)));
    setInterval(() => status(second, 2), 4000);
  } else {
    for (const row of $("heads").rows) row.cells[2].hidden = true;
  }
  return first;
}

async function fill(rpc) {
  try {
    const newest = Number(await rpc.call("eth_blockNumber"));
    const wanted = [];
    for (let n = Math.max(0, newest - SHOWN + 1); n <= newest; n++) {
      wanted.push(rpc.call("eth_getBlockByNumber", "0x" + n.toString(16), false));
    }
    for (const block of await Promise.all(wanted)) if (block) blocks.set(Number(block.number), block);
    draw();
  } catch { /* the connection was lost: it is filled again with the next one */ }
}

function seen(head) {
  blocks.set(Number(head.number), head);
  for (const number of blocks.keys()) if (number <= Number(head.number) - SHOWN || number > Number(head.number)) blocks.delete(number);
  draw();
}

function lost(column) {
  for (const label of Object.keys(labels)) cell(label, column).replaceChildren("—");
}

const cell = (label, column) => $("heads").querySelector(`[data-label="${label}"]`).cells[column];

async function status(rpc, column) {
  let found;
  try { found = await rpc.call("optimism_syncStatus"); } catch { return; }
  for (const [label, name] of Object.entries(labels)) {
    const parts = [found[name].number.toLocaleString("en"), hash(found[name].hash)];
    if (column === 2) parts.splice(1, 0, " ", agreement(found[name]));
    cell(label, column).replaceChildren(...parts.filter(Boolean));
  }
  if (column === 1) { own = found; draw(); }
}

/** Whether the second node's block is the one that this node has at that height. */
function agreement(reference) {
  const block = blocks.get(reference.number);
  if (!block) return "";
  return block.hash === reference.hash
    ? h("span", { class: "good", title: "the same block hash as on this node" }, "✓ same")
    : h("span", { class: "false", title: "this node has another block at this height" }, "✗ differs");
}

function draw() {
  const numbers = [...blocks.keys()].sort((a, b) => a - b).slice(-SHOWN);
  if (!numbers.length) return;
  const state = (n) => (own && n <= own.finalized_l2.number ? "finalized" : own && n <= own.safe_l2.number ? "safe" : "unsafe");
  $("strip").replaceChildren(...numbers.map((number) => {
    const block = blocks.get(number);
    const gas = Number(block.gasUsed);
    const bar = h("span", { class: state(number), title: `block ${number}: ${state(number)}, ${gas.toLocaleString("en")} gas` });
    bar.style.height = `${Math.round(100 * Math.min(1, Math.max(0.12, Math.log10(1 + gas / 21000) / 2.2)))}%`;
    return bar;
  }));
  const last = blocks.get(numbers.at(-1));
  const text = `block ${Number(last.number).toLocaleString("en")}, ${new Date(1000 * Number(last.timestamp)).toLocaleTimeString()}`;
  $("latest").textContent = text;
  $("strip").setAttribute("aria-label", `The latest ${numbers.length} blocks up to ${numbers.at(-1)}`);
}
