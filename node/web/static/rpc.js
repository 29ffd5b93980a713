// JSON-RPC over a WebSocket that connects again when it is lost.

const LONGEST_PAUSE_MS = 15000;

export class Rpc {
  /** `onHead(header)` for every new head, `onState(connected)` when the connection comes and goes. */
  constructor(url, onHead, onState) {
    this.url = url.replace(/^http/, "ws");
    this.onHead = onHead;
    this.onState = onState;
    this.waiting = new Map();
    this.next = 1;
    this.pause = 500;
    this.connect();
  }

  connect() {
    this.socket = new WebSocket(this.url);
    this.socket.onopen = async () => {
      this.pause = 500;
      this.onState(true);
      try { await this.call("eth_subscribe", "newHeads"); } catch { this.socket.close(); }
    };
    this.socket.onmessage = (message) => this.heard(JSON.parse(message.data));
    this.socket.onclose = () => {
      for (const { reject } of this.waiting.values()) reject(new Error("the connection was lost"));
      this.waiting.clear();
      this.onState(false);
      setTimeout(() => this.connect(), this.pause);
      this.pause = Math.min(2 * this.pause, LONGEST_PAUSE_MS);
    };
  }

  heard(message) {
    if (message.method === "eth_subscription") return this.onHead(message.params.result);
    const asked = this.waiting.get(message.id);
    this.waiting.delete(message.id);
    if (!asked) return;
    if (message.error) asked.reject(new Error(message.error.message));
    else asked.resolve(message.result);
  }

  call(method, ...params) {
    return new Promise((resolve, reject) => {
      if (this.socket.readyState !== WebSocket.OPEN) return reject(new Error("not connected"));
      const id = this.next++;
      this.waiting.set(id, { resolve, reject });
      this.socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    });
  }
}
