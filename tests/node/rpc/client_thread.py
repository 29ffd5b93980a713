"""An execution client in a thread, and a caller of its Engine API with a token, as a consensus client has."""

import threading
from pathlib import Path

import httpx
import trio

from openledger.node.execution_client import ExecutionClient, ExecutionClientConfig, open_execution_client


class ClientThread:
    """`with ClientThread(config) as client:` gives the running ExecutionClient."""

    def __init__(self, config: ExecutionClientConfig) -> None:
        self._config = config
        self._started = threading.Event()
        self._client: ExecutionClient | None = None
        self._failure: BaseException | None = None
        self._token: trio.lowlevel.TrioToken | None = None
        self._scope = trio.CancelScope()
        self._thread = threading.Thread(target=self._run, name="execution-client")

    def __enter__(self) -> ExecutionClient:
        self._thread.start()
        self._started.wait(30)
        if self._client is None:
            self._thread.join(10)
            raise self._failure or RuntimeError("the execution client did not start")
        return self._client

    def __exit__(self, *_: object) -> None:
        assert self._token is not None
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join(20)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            trio.run(self._serve)
        except BaseException as error:
            self._failure = error
        self._started.set()

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with self._scope:
            async with open_execution_client(self._config) as client:
                self._client = client
                self._started.set()
                await trio.sleep_forever()


class EngineCaller:
    """Calls the authenticated port, each time with a fresh token."""

    def __init__(self, client: ExecutionClient) -> None:
        assert client.engine is not None
        self._http = httpx.Client(base_url=client.engine.url, trust_env=False, timeout=180)
        self._secret = client.jwt_secret

    def __call__(self, method: str, *params):
        answer = self.answer(method, *params)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def error(self, method: str, *params) -> dict:
        answer = self.answer(method, *params)
        assert "error" in answer, (method, answer)
        return answer["error"]

    def answer(self, method: str, *params) -> dict:
        response = self.post(method, *params, token=self._secret.token())
        assert response.status_code == 200, response.text
        return response.json()

    def post(self, method: str, *params, token: str | None) -> httpx.Response:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        return self._http.post("/", json=body, headers=headers)

    def close(self) -> None:
        self._http.close()


def write_genesis(folder: Path, genesis) -> Path:
    import json

    path = folder / "genesis.json"
    path.write_text(json.dumps(genesis.to_json()))
    return path
