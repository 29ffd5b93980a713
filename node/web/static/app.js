// Puts the page together.

import { get } from "./api.js";
import { watchChain } from "./chain.js";
import { startChat } from "./chat.js";
import { $ } from "./dom.js";
import { showEarnings } from "./earnings.js";
import { watchHealth } from "./health.js";
import { watchReceipts } from "./receipts.js";

async function start() {
  let config;
  try {
    config = await get("/web/config.json");
  } catch (error) {
    $("network").textContent = error.message;
    setTimeout(start, 3000);
    return;
  }
  $("network").textContent = `${config.network}, chain id ${config.chain_id}`;
  const rpc = watchChain(config, showEarnings);
  showEarnings();
  watchReceipts(config);
  startChat(config, rpc);
}

watchHealth();
start();
