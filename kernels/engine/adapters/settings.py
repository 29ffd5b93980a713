"""What `adapter_config.json` may say: a plain LoRA, rank-stabilised or not, with ranks and scales by pattern.

PEFT's own rules decide which module a pattern means; what would need another computation is refused by name, and so is any
setting that this version does not know. Regular expressions of a stranger are run only if they cannot take long.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from openledger.kernels.engine.adapters.errors import AdapterRefused
from openledger.kernels.strict_json import parse_json

CONFIG_FILE: Final = "adapter_config.json"
MAX_PATTERNS: Final = 4096
MAX_PATTERN_LENGTH: Final = 256
MAX_TRIALS: Final = 50_000
"""About how many ways to match a pattern may have to be tried."""

_LONGEST_NAME: Final = 48
_HARMLESS: Final = frozenset({
    "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision", "inference_mode", "task_type", "r",
    "target_modules", "exclude_modules", "lora_alpha", "lora_dropout", "bias", "use_rslora", "init_lora_weights",
    "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern", "megatron_core", "loftq_config",
    "eva_config", "qalora_group_size", "runtime_config",
})  # fmt: skip
_REFUSED: Final[Mapping[str, str]] = {
    "use_dora": "is DoRA, which scales the columns of the merged weights: train with use_dora = false",
    "modules_to_save": "replaces whole modules: train with modules_to_save = null",
    "trainable_token_indices": "changes rows of the token table: train without it",
    "target_parameters": "adapts parameters that are no linear layers: name target_modules instead",
    "layer_replication": "repeats layers of the base model: train without it",
    "fan_in_fan_out": "stores its matrices transposed: save the adapter for linear layers",
    "lora_bias": "adds a bias to B: train with lora_bias = false",
    "megatron_config": "is cut for Megatron: save it whole",
    "alora_invocation_tokens": "begins only after certain tokens (activated LoRA): train a plain LoRA",
    "arrow_config": "mixes other adapters (Arrow): name these adapters in the request instead",
    "corda_config": "was initialised from the base weights, which it changed (CorDA): convert it as peft's documentation says",
    "lora_ga_config": "was initialised from the base weights, which it changed (LoRA-GA): convert it",
}
_KEEP_THE_BASE: Final = (None, True, False, "gaussian", "eva", "orthogonal")
_SPECIAL: Final = re.compile(r"\\[a-zA-Z\d]|[][(){}*+?|^$]")


@dataclass(frozen=True)
class LoraSettings:
    """A configuration that is served. `targets` None: not said, any module is one."""

    rank: float
    alpha: float
    rank_stabilised: bool
    rank_pattern: Mapping[str, Any]
    alpha_pattern: Mapping[str, Any]
    targets: str | tuple[str, ...] | None
    excluded: str | tuple[str, ...] | None
    layers: tuple[int, ...] | None
    layers_pattern: tuple[str, ...]

    def rank_of(self, name: str) -> float:
        """The rank of the module of that name, such as `model.layers.0.mlp.up_proj`."""
        return _first(self.rank_pattern, name, self.rank)

    def scale_of(self, name: str, rank: int) -> float:
        """What its product is multiplied with."""
        alpha = _first(self.alpha_pattern, name, self.alpha)
        return alpha / math.sqrt(rank) if self.rank_stabilised else alpha / rank

    def adapts(self, name: str) -> bool:
        """Whether PEFT would put a LoRA into that module."""
        if self.excluded is not None and _named(self.excluded, name):
            return False
        if self.targets is None or self.targets == "all-linear":
            return True
        if not _named(self.targets, name):
            return False
        if isinstance(self.targets, str) or not self.layers or name in self.targets:
            return True
        if not self.layers_pattern:
            found = re.match(r".*?\.[^.]*\.(?P<index>\d+)\.", name)
        else:
            tried = (re.match(rf"(?:^|.*?\.){each}\.(?P<index>\d+)\.", name) for each in self.layers_pattern)
            found = next((match for match in tried if match), None)
        return found is not None and int(found["index"]) in self.layers


def parse_settings(raw: bytes) -> LoraSettings:
    """The configuration in a file's bytes. Raises `AdapterRefused`."""
    try:
        said = parse_json(raw)
    except ValueError as error:
        raise AdapterRefused(f"{CONFIG_FILE} is not JSON: {error}") from error
    if not isinstance(said, dict) or said.get("peft_type") != "LORA":
        raise AdapterRefused(f"{CONFIG_FILE} does not describe a LoRA adapter (peft_type LORA)")
    for key, value in said.items():
        if key in _REFUSED and value not in (None, False, [], {}):
            raise AdapterRefused(f"the adapter's {key} ({str(value)[:80]}) {_REFUSED[key]}")
        if key not in _HARMLESS and key not in _REFUSED and value not in (None, False, [], {}):
            raise AdapterRefused(
                f"the adapter sets {key[:80]} = {str(value)[:80]}, which is not supported: train a plain LoRA"
            )
    if said.get("bias", "none") != "none":
        raise AdapterRefused("the adapter trains biases, which is not supported: train with bias = none")
    if said.get("init_lora_weights") not in _KEEP_THE_BASE:
        raise AdapterRefused(
            f"the adapter began with init_lora_weights = {str(said['init_lora_weights'])[:80]}, which changed the base "
            "model's weights: convert it to a plain LoRA (peft: save_pretrained with "
            "path_initial_model_for_weight_conversion)"
        )
    layers = said.get("layers_to_transform")
    layers = [layers] if isinstance(layers, int) else layers
    if layers is not None and not (isinstance(layers, list) and all(type(n) is int for n in layers)):
        raise AdapterRefused(
            f"{CONFIG_FILE} says layers_to_transform = {str(layers)[:80]}, which is no list of numbers"
        )
    return LoraSettings(
        rank=_number(said, "r"),
        alpha=_number(said, "lora_alpha"),
        rank_stabilised=bool(said.get("use_rslora")),
        rank_pattern=_patterns(said, "rank_pattern"),
        alpha_pattern=_patterns(said, "alpha_pattern"),
        targets=_names(said, "target_modules"),
        excluded=_names(said, "exclude_modules"),
        layers=None if layers is None else tuple(layers),
        layers_pattern=_layers_pattern(said),
    )


def check_pattern(pattern: Any, key: str) -> str:
    """A regular expression that compiles and that cannot take long on a module's name. Raises `AdapterRefused`."""
    if not isinstance(pattern, str) or len(pattern) > MAX_PATTERN_LENGTH:
        raise AdapterRefused(f"{CONFIG_FILE} has the {key} {str(pattern)[:80]!r}, which is too long or no text")
    try:
        re.compile(rf"(.*\.)?({pattern})$")
    except (re.error, RecursionError, OverflowError) as error:
        raise AdapterRefused(f"{CONFIG_FILE} has the {key} {pattern!r}, not a pattern: {error}") from error
    if _trials(pattern) > MAX_TRIALS:
        raise AdapterRefused(
            f"{CONFIG_FILE} has the {key} {pattern!r}, which may take long to match: list the modules by their names"
        )
    return pattern


def _trials(pattern: str) -> int:
    """A bound on the ways to match: each repetition may take any length, each group any of its alternatives. Infinite
    for a repeated group, for what looks around and for what refers back."""
    beyond = MAX_TRIALS + 1
    trials = alternatives = 1
    open_groups: list[int] = []
    in_class = False
    for found in _SPECIAL.finditer(pattern):
        mark = found[0]
        if mark[0] == "\\":
            if mark[1].isdigit():
                return beyond
        elif in_class:
            in_class = mark != "]"
        elif mark == "[":
            in_class = True
        elif mark == "(":
            rest = pattern[found.end() : found.end() + 2]
            if rest[:1] == "?" and rest != "?:":
                return beyond
            open_groups.append(alternatives)
            alternatives = 1
        elif mark == "|":
            alternatives += 1
        elif mark == ")":
            trials *= alternatives
            alternatives = open_groups.pop() if open_groups else 1
        elif mark == "?":
            if pattern[found.start() - 1 : found.start()] != "(":
                trials *= 2
        elif mark in "*+{":
            if pattern[found.start() - 1 : found.start()] == ")":
                return beyond
            trials *= _LONGEST_NAME
        if trials > MAX_TRIALS:
            return beyond
    return trials * alternatives


def _number(said: Mapping[str, Any], key: str) -> float:
    value = said.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise AdapterRefused(f"{CONFIG_FILE} says {key} = {value!r}, which is not a number")
    return value


def _patterns(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    table = said.get(key) or {}
    if not isinstance(table, dict):
        raise AdapterRefused(f"{CONFIG_FILE} says {key} = {str(table)[:80]}, which is not a table")
    if len(table) > MAX_PATTERNS:
        raise AdapterRefused(f"{CONFIG_FILE} has {len(table):,} entries of {key}, at most {MAX_PATTERNS:,} are read")
    for pattern, value in table.items():
        check_pattern(pattern, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise AdapterRefused(f"{CONFIG_FILE} has a {key} that is not a number: {str(value)[:80]}")
    trials = sum(_trials(pattern) for pattern in table if _SPECIAL.search(pattern))
    if trials > 4 * MAX_TRIALS:
        raise AdapterRefused(f"{CONFIG_FILE} has a {key} that may take long to match: list the modules by their names")
    return table


def _names(said: Mapping[str, Any], key: str) -> str | tuple[str, ...] | None:
    names = said.get(key)
    if names is None or names == [] or names == "":
        return None
    if isinstance(names, str):
        return names if names == "all-linear" else check_pattern(names, key)
    if not isinstance(names, list) or len(names) > MAX_PATTERNS or not all(isinstance(name, str) for name in names):
        raise AdapterRefused(f"{CONFIG_FILE} says {key} = {str(names)[:80]}, which is no list of names")
    return tuple(names)


def _layers_pattern(said: Mapping[str, Any]) -> tuple[str, ...]:
    patterns = said.get("layers_pattern") or []
    patterns = [patterns] if isinstance(patterns, str) else patterns
    if not isinstance(patterns, list) or len(patterns) > 16:
        raise AdapterRefused(f"{CONFIG_FILE} says layers_pattern = {str(patterns)[:80]}, which is no list of names")
    return tuple(check_pattern(pattern, "layers_pattern") for pattern in patterns)


def _named(names: str | tuple[str, ...], name: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, name) is not None
    return name in names or any(name.endswith(f".{each}") for each in names)


def _first(table: Mapping[str, Any], name: str, default: float) -> float:
    """PEFT's rule: the first pattern that matches the end of the module's name."""
    for pattern, value in table.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            number: float = value
            return number
    return default
