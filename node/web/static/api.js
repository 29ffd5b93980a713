// The node's REST API: JSON, and streams of server-sent events.

/** An answer with an error: `status`, `code` and the whole answer; the message is meant for people. */
export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error?.message ?? `the node answered with status ${status}`);
    this.status = status;
    this.code = answer?.error?.code ?? "";
    this.answer = answer ?? {};
  }
}

const silent = "the node does not answer: is it running? `openledger dev` starts one";

async function answered(url, options) {
  try {
    return await fetch(url, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error(silent);
  }
}

async function refusal(response) {
  let answer = null;
  try { answer = await response.json(); } catch { /* not JSON: the status says it */ }
  return new Refused(response.status, answer);
}

export async function get(path) {
  const response = await answered(path);
  if (!response.ok) throw await refusal(response);
  return response.json();
}

export async function getText(path) {
  const response = await answered(path);
  if (!response.ok) throw await refusal(response);
  return response.text();
}

const posting = (body, headers, signal) => ({
  method: "POST", body: JSON.stringify(body), signal, headers: { "content-type": "application/json", ...headers },
});

export async function post(path, body) {
  const response = await answered(path, posting(body));
  if (!response.ok) throw await refusal(response);
  return response.json();
}

/** The JSON of each event of a POST's stream, until [DONE]. */
export async function* events(path, body, { headers = {}, signal } = {}) {
  const response = await answered(path, posting(body, headers, signal));
  if (!response.ok) throw await refusal(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the answer broke off: the node may have stopped");
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (line === "data: [DONE]") return;
        if (!line.startsWith("data: ")) continue;
        const event = JSON.parse(line.slice(6));
        if (event.error) throw new Refused(500, event);
        yield event;
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
