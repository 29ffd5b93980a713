"""One configuration for every role: a TOML file, then the environment, then flags, each overriding the one before.

Environment variables are `OPENLEDGER_` and the field's name in capitals, `__` between levels:
`OPENLEDGER_DATA_DIR=/srv/ol`, `OPENLEDGER_PORTS__RPC=9545`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from openledger.evm_ext.state.policy import (
    DEFAULT_KEEP_BLOCKS,
    DEFAULT_KEEP_CHANGES,
    MIN_KEEP_BLOCKS,
    StateHistory,
)
from openledger.node.errors import StartupError

Role = Literal["dev", "sequencer", "validator", "full", "serving"]

VALIDATOR_PORT_STEP = 10
"""How far above the first node's ports `openledger dev` puts its validator's."""


class Ports(BaseModel):
    """TCP ports before `port_offset` is added."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rpc: int = Field(8545, ge=0, le=65535, description="L2 JSON-RPC, HTTP and WebSocket")
    l1_rpc: int = Field(8546, ge=0, le=65535, description="JSON-RPC of the embedded L1 (dev only)")
    api: int = Field(8080, ge=0, le=65535, description="inference API, Datanet API, health and web page")
    da: int = Field(3100, ge=0, le=65535, description="EigenDA-compatible REST server (dev only)")
    metrics: int = Field(7300, ge=0, le=65535, description="Prometheus metrics")
    p2p: int = Field(9222, ge=0, le=65535, description="libp2p")

    def shifted(self, offset: int) -> Ports:
        """Every port moved by `offset`; 0 (any free port) stays 0.

        Raises StartupError if a port would leave 1..65535.
        """
        moved = {name: port + offset if port else 0 for name, port in self.model_dump().items()}
        for name, port in moved.items():
            if port > 65535:
                raise StartupError(f"port offset {offset} moves {name} to {port}, above 65535: use a smaller one")
        return Ports(**moved)


class EngineConfig(BaseModel):
    """The serving engine's limits."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model_file: str = Field(
        "",
        description="a GGUF file or a folder in Hugging Face's layout; empty: SmolLM2-135M-Instruct from its package",
    )
    threads: int = Field(0, ge=0, description="CPU threads of the engine process; 0: half of the cores, at least one")
    max_batch: int = Field(16, ge=1, le=256, description="sequences decoded together")
    max_context_tokens: int = Field(2048, ge=64, le=8192)
    max_output_tokens: int = Field(512, ge=1, le=8192)
    numerics: Literal["exact-1", "bf16"] = Field(
        "exact-1",
        description="bf16 is faster on a GPU; its answers are attested: nobody can recompute their tokens, and only "
        "releases made under bf16 are served",
    )
    weight_bits: Literal[8, 4] = Field(8, description="4 halves the memory of the layers; releases are of either")
    replicas: int = Field(1, ge=1, le=64, description="engines that answer side by side, each with the whole model")
    tensor_parallel: int = Field(1, ge=1, le=64, description="processes, on GPUs one each, that a model is cut over")
    backend: Literal["local", "ray"] = Field(
        "local", description="where engines and fine-tuning run: on this machine, or as actors of a Ray cluster"
    )
    ray_address: str = Field("", description="HOST:PORT of the Ray cluster; empty starts one of this machine alone")
    ray_gpus: float = Field(0, ge=0, le=64, description="GPUs that an engine or a fine-tuning job asks Ray for")
    answer_timeout_s: float = Field(
        600.0, gt=0, description="how long an answer may take; what there is then is the whole of it"
    )


class BatcherConfig(BaseModel):
    """How a sequencer's blocks reach L1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_kind: Literal["span", "singular"] = "span"
    max_channel_blocks: int = Field(10, ge=1, description="a channel closes with this many blocks")
    max_channel_duration_s: float = Field(5.0, gt=0, description="or this long after its first block was seen")
    target_channel_bytes: int = Field(600_000, ge=1_000, description="or when it has about this size, compressed")
    fallback: Literal["calldata", "blobs", "none"] = Field(
        "calldata", description="where data goes while the DA layer cannot take it"
    )
    failover_after_s: float = Field(60.0, ge=0, description="for how long the DA layer may fail before that")
    failback_after_s: float = Field(60.0, gt=0, description="when the DA layer is tried again")
    throttle_backlog_bytes: int = Field(
        8_000_000, ge=0, description="unposted bytes of transactions from which blocks are kept small; 0 never"
    )
    throttle_block_bytes: int = Field(40_000, ge=1_000)
    dry_run: bool = Field(False, description="build and measure channels, post nothing")


class EigenDAConfig(BaseModel):
    """EigenDA itself, for da_route = disperser. Its contracts stand on the rollup's L1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    disperser: str = Field("", description="HOST:PORT of a disperser's gRPC API; needed where payloads are stored")
    disperser_id: int = Field(0, ge=0, lt=2**32, description="the disperser's number in EigenDA's registry")
    payment: Literal["reservation", "on-demand"] = Field(
        "reservation", description="what da_payment_key's account pays from: its reservation, or its deposit"
    )
    certificate_version: Literal[3, 4] = 4
    timeout_s: float = Field(600.0, gt=0, description="after so long a blob that is not attested is given up")
    relays: dict[int, str] = Field({}, description="HOST:PORT of relays by their keys")
    relay_registry: str = Field("", description="address of EigenDARelayRegistry on L1, asked for all other relays")
    operator_state_retriever: str = Field(
        "", description="address on L1: where operators are found when no relay has a blob, or some did not sign"
    )
    registry_coordinator: str = Field("", description="address on L1 that the retriever is asked about")
    plaintext: bool = Field(False, description="no TLS, for a disperser and relays of one's own")
    srs_folder: Path | None = Field(
        None, description="EigenDA's SRS files; needed on every chain but a development one, with a proxy too"
    )


class ChainConfig(BaseModel):
    """What the node keeps of its chain beside the blocks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    state: Literal["archive", "pruned"] = Field(
        "archive", description="archive keeps the state after every block, pruned only the newest ones"
    )
    keep_blocks: int = Field(
        DEFAULT_KEEP_BLOCKS,
        ge=MIN_KEEP_BLOCKS,
        description="pruned: blocks below the finalized head whose whole state is kept, proofs included",
    )
    keep_changes: int = Field(
        DEFAULT_KEEP_CHANGES,
        ge=MIN_KEEP_BLOCKS,
        description="pruned: blocks below the finalized head at which balances, storage and calls can be read",
    )

    address_index: bool | None = Field(
        None, description="index transactions and internal operations by account, for ots_*; unset: on a devnet only"
    )


class RpcConfig(BaseModel):
    """What callers of the L2's JSON-RPC may spend."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    connections: int = Field(10_000, ge=1, description="open connections, idle WebSockets included")
    connections_per_client: int = Field(
        0, ge=0, description="of one IP address; 0: no bound (a proxy in front has one address for all)"
    )
    body_bytes: int = Field(5 << 20, ge=1024, description="one request, or one WebSocket message")
    response_bytes: int = Field(25 << 20, ge=1024, description="one answer, a batch's answers together")
    batch: int = Field(1_000, ge=1, description="calls in one batch")
    log_blocks: int = Field(10_000, ge=1, description="blocks that one eth_getLogs may span")
    log_results: int = Field(10_000, ge=1, description="logs that one answer may hold")
    call_gas: int = Field(50_000_000, ge=21_000, description="gas of eth_call and eth_estimateGas")
    call_time_s: float = Field(5.0, gt=0, description="time of eth_call and eth_estimateGas")
    subscriptions: int = Field(100, ge=1, description="eth_subscribe on one WebSocket")
    filters: int = Field(1_000, ge=1, description="polled filters, of all callers together")
    allow_unprotected_txs: bool | None = Field(
        None,
        description="take transactions without a chain id (before EIP-155), which anybody can send to other chains too; "
        "unset: on a devnet only, where deployers of fixed addresses need it",
    )


class PoolConfig(BaseModel):
    """The transaction pool, with geth's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    account_slots: int = Field(16, ge=1, description="executable transactions an account keeps when too many wait")
    global_slots: int = Field(5_120, ge=1, description="executable transactions of all accounts")
    account_queue: int = Field(64, ge=1, description="transactions of one account that wait for a missing nonce")
    global_queue: int = Field(1_024, ge=1, description="such transactions of all accounts")
    lifetime_s: float = Field(3 * 3600.0, gt=0, description="how long they wait after the account's last one")
    price_limit_wei: int = Field(1, ge=0, description="least priority fee per gas")
    price_bump_percent: int = Field(10, ge=0, description="by how much both fees of a replacement must be higher")
    fee_cap_wei: int = Field(100 * 10**18, ge=0, description="most that a transaction's gas may cost; 0: no bound")


class Config(BaseSettings):
    """What a node is told. Paths may start with `~`; everything listens on loopback unless `host` says otherwise."""

    model_config = SettingsConfigDict(
        env_prefix="OPENLEDGER_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    network: Literal["devnet", "testnet", "mainnet"] = "devnet"
    role: Role = "dev"
    data_dir: Path = Path("~/.openledger/devnet")
    cache_dir: Path = Field(Path("~/.cache/openledger"), description="imported model weights, shared by all nodes")
    host: str = "127.0.0.1"
    ports: Ports = Ports()
    port_offset: int = Field(0, ge=0, le=50000)
    cors_origins: tuple[str, ...] = ("*",)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    l1_rpc_url: str = Field("", description="JSON-RPC of the L1; empty means the embedded one")
    l1_further_rpc_urls: tuple[str, ...] = Field((), description="more endpoints of the same L1, asked when one fails")
    l1_quorum: int = Field(1, ge=1, description="how many L1 endpoints must agree on which block is canonical")
    l1_requests_per_s: float = Field(
        0.0, ge=0, description="most requests a second to one L1 endpoint; 0 for any number"
    )
    l1_beacon_urls: tuple[str, ...] = Field(
        (), description="beacon nodes of the L1, asked in turn for batcher data in EIP-4844 blobs"
    )
    da_route: Literal["proxy", "disperser"] = Field(
        "proxy",
        description="how EigenDA is reached: by a proxy's REST API, or without one, by its disperser and relays over gRPC",
    )
    da_url: str = Field("", description="EigenDA proxy; empty means the embedded server")
    l1_timeout_s: float = Field(
        30.0, gt=0, description="how long an answer of an L1 endpoint may take, to its last byte"
    )
    da_timeout_s: float = Field(
        120.0, gt=0, description="how long an answer of the DA proxy may take, to its last byte (a put: the dispersal)"
    )
    da_trust: Literal["payload", "certificate", "l1"] = Field(
        "payload",
        description="what of the DA proxy is checked: payloads against their certificates; the certificates too (always, "
        "with da_route = disperser); and their signers' stakes by the contract on L1",
    )
    da_cert_verifier: str = Field("", description="address of EigenDACertVerifier on L1, for da_trust = l1")
    sequencer_rpc_url: str = Field("", description="where a node that is not the sequencer sends transactions on")
    peers: tuple[str, ...] = Field((), description="multiaddresses of peers to dial")
    network_file: Path | None = Field(
        None, description="network.json of the chain to join; default DATA_DIR/network.json"
    )

    chain: ChainConfig = ChainConfig()
    validator: bool = Field(True, description="`openledger dev` also runs a validator node in a process of its own")
    serving: bool = Field(True, description="run the inference engine and its API")
    engine: EngineConfig = EngineConfig()
    embeddings: bool | None = Field(None, description="answer /v1/embeddings, free of charge; unset: on a devnet only")
    rpc: RpcConfig = RpcConfig()
    pool: PoolConfig = PoolConfig()
    sequencer_key: str = Field(
        "", repr=False, description="hex private key that signs gossiped blocks; dev has its own"
    )
    batcher_key: str = Field("", repr=False)
    batcher: BatcherConfig = BatcherConfig()
    da_payment_key: str = Field(
        "", repr=False, description="hex private key of the account that pays the disperser, for da_route = disperser"
    )
    eigenda: EigenDAConfig = EigenDAConfig()
    proposer_key: str = Field("", repr=False, description="hex private key that puts output roots on L1")
    challenger_key: str = Field(
        "",
        repr=False,
        description="hex private key that challenges wrong output roots on L1, with a bond in OPEN, and "
        "decides challenges where it is the oracle's challenger",
    )
    provider_key: str = Field("", repr=False, description="hex private key that signs receipts and settles")
    parent_pid: int = Field(0, ge=0, description="stop when this parent process is gone; 0 means never")
    settle_interval_s: float = Field(20.0, gt=0, description="how often unpacked receipts are settled")

    @property
    def address_index(self) -> bool:
        """Whether the chain is indexed by accounts."""
        chosen = self.chain.address_index
        return self.network == "devnet" if chosen is None else chosen

    @property
    def offers_embeddings(self) -> bool:
        """Whether texts are embedded for anybody."""
        return self.network == "devnet" if self.embeddings is None else self.embeddings

    @property
    def allow_unprotected_txs(self) -> bool:
        """Whether JSON-RPC takes transactions without a chain id."""
        chosen = self.rpc.allow_unprotected_txs
        return self.network == "devnet" if chosen is None else chosen

    @property
    def state_history(self) -> StateHistory:
        """How much of the past the chain keeps. Raises StartupError."""
        try:
            return StateHistory(self.chain.state, self.chain.keep_blocks, self.chain.keep_changes)
        except ValueError as error:
            raise StartupError(f"[chain] {error}") from error

    @property
    def listening(self) -> Ports:
        """The ports this node really binds."""
        return self.ports.shifted(self.port_offset)

    @property
    def folder(self) -> Path:
        """The data folder, absolute."""
        return self.data_dir.expanduser().resolve()

    @property
    def cache_folder(self) -> Path:
        """The cache folder, absolute."""
        return self.cache_dir.expanduser().resolve()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings, env_settings, TomlConfigSettingsSource(settings_cls))


@dataclass(frozen=True)
class Endpoints:
    """Where a node's services answer, as URLs."""

    rpc: str
    api: str
    l1_rpc: str
    da: str
    metrics: str = ""

    @classmethod
    def of(cls, config: Config) -> Endpoints:
        host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
        ports = config.listening
        return cls(
            rpc=f"http://{host}:{ports.rpc}",
            api=f"http://{host}:{ports.api}",
            l1_rpc=config.l1_rpc_url or f"http://{host}:{ports.l1_rpc}",
            da=config.da_url or f"http://{host}:{ports.da}",
            metrics=f"http://{host}:{ports.metrics}/metrics",
        )


def load_config(file: Path | None = None, **flags: Any) -> Config:
    """The configuration from `file`, the environment and `flags` (a flag that is None was not given).

    Raises StartupError naming each bad setting.
    """
    if file is not None and not file.is_file():
        raise StartupError(f"there is no configuration file {file}: check --config, or leave it out for the defaults")

    class FromFile(Config):
        model_config = SettingsConfigDict(toml_file=file)

    try:
        loaded = FromFile(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise StartupError(f"bad configuration: {wrong}") from error
    except ValueError as error:  # malformed TOML
        raise StartupError(f"{file} is not valid TOML: {error}") from error
    return loaded
