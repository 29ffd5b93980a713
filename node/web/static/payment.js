// Who pays: the browser's wallet (EIP-1193), or on a development network the node's well-known account.

import { get, post, Refused } from "./api.js";
import { short } from "./dom.js";

const DEPOSIT_MICRO_OPEN = 2_000_000n;
const word = (value) => BigInt(value).toString(16).padStart(64, "0");

/** What pays a call: `voucher(most)` gives the fields of a payment header for a call of at most that fee. */
class DevelopmentAccount {
  constructor() { this.name = "development account 4, whose key everybody knows"; }
  voucher(most) { return post("/v1/dev/voucher", { most }); }
}

class BrowserWallet {
  constructor(ethereum, address, config, rpc) {
    Object.assign(this, { ethereum, address, config, rpc });
    this.name = `${short(address)} from your wallet`;
  }

  async voucher(most) {
    const provider = await get("/v1/provider");
    const delay = provider.min_withdraw_delay_blocks;
    const terms = [this.address, provider.provider, this.address, delay, 0].map(word);
    const channelId = await this.rpc.call("web3_sha3", "0x" + terms.join(""));
    let state = await this.state(channelId);
    let needed = BigInt(state?.next_voucher_above_micro_open ?? 0) + BigInt(most);
    const deposit = BigInt(state?.deposit_micro_open ?? 0);
    if (deposit < needed) {
      const { ledger } = this.config;
      const data = state ? ledger.top_up + channelId.slice(2)
        : ledger.open + [provider.provider, this.address, delay, 0].map(word).join("");
      const more = needed - deposit > DEPOSIT_MICRO_OPEN ? needed - deposit : DEPOSIT_MICRO_OPEN;
      await this.send({ from: this.address, to: ledger.address, data, value: "0x" + (more * BigInt(ledger.micro_open_wei)).toString(16) });
      state = await this.state(channelId);
      needed = BigInt(state.next_voucher_above_micro_open) + BigInt(most);
    }
    const message = { channelId, maxClaimable: needed.toString() };
    const typed = JSON.stringify({ ...this.config.voucher, message });
    const signature = await this.ethereum.request({ method: "eth_signTypedData_v4", params: [this.address, typed] });
    return { ...message, signature };
  }

  async state(channelId) {
    try { return await get(`/v1/channels/${channelId}`); } catch (error) {
      if (error instanceof Refused && error.status === 404) return null;
      throw error;
    }
  }

  async send(transaction) {
    const sent = await this.ethereum.request({ method: "eth_sendTransaction", params: [transaction] });
    for (let tries = 0; tries < 120; tries++) {
      const receipt = await this.rpc.call("eth_getTransactionReceipt", sent);
      if (receipt) {
        if (receipt.status !== "0x1") throw new Error(`the transaction ${short(sent)} was reverted: no money was deposited`);
        return;
      }
      await new Promise((done) => setTimeout(done, 500));
    }
    throw new Error(`the transaction ${short(sent)} is in no block after a minute`);
  }
}

export const developmentPayer = (config) => (config.development ? new DevelopmentAccount() : null);

/** Ask the browser's wallet for an account on this chain. */
export async function connectWallet(config, rpc) {
  const { ethereum } = window;
  const [address] = await ethereum.request({ method: "eth_requestAccounts" });
  const chainId = "0x" + config.chain_id.toString(16);
  if ((await ethereum.request({ method: "eth_chainId" })) !== chainId) {
    try {
      await ethereum.request({ method: "wallet_switchEthereumChain", params: [{ chainId }] });
    } catch (error) {
      if (error.code !== 4902) throw error;
      await ethereum.request({
        method: "wallet_addEthereumChain",
        params: [{
          chainId, chainName: `Openledger ${config.network}`, rpcUrls: [config.rpc],
          nativeCurrency: { name: "OPEN", symbol: "OPEN", decimals: 18 },
        }],
      });
    }
  }
  return new BrowserWallet(ethereum, address, config, rpc);
}
