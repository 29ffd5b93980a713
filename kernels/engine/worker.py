"""The engine's process: `python -m openledger.kernels.engine.worker --fd N`.

Reads `Start`, loads the model, says `Ready`, then serves until its parent closes the channel.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

from openledger.kernels.engine.config import EngineConfig
from openledger.kernels.engine.messages import (
    Cancel,
    Generate,
    Load,
    Progress,
    Ready,
    Start,
    ToWorker,
    Unusable,
    Verify,
)
from openledger.kernels.framing import BlockingFrameChannel, ChannelClosed

_LOADING_WAIT_S: Final = 0.005
_LOAD_INTERVAL_S: Final = 1.0


def serve(channel: BlockingFrameChannel[Any]) -> None:
    """Until the parent is gone. Raises `ChannelClosed` then."""
    start = channel.receive()
    if not isinstance(start, Start):
        raise SystemExit("the first message must be Start")
    config = start.config
    engine = _open(channel, config)
    if engine is None:
        return
    reported: Load | None = None
    reported_at = 0.0
    while True:
        wait = None if engine.idle else _LOADING_WAIT_S if engine.only_loading else 0
        message = channel.receive(wait)
        while message is not None:
            if isinstance(message, Generate | Verify):
                answers = engine.submit(message)
            else:
                answers = engine.cancel(message.request_id) if isinstance(message, Cancel) else []
            for answer in answers:
                channel.send(answer)
            message = channel.receive(0)
        for answer in engine.step():
            channel.send(answer)
        now = time.monotonic()
        if engine.idle or now - reported_at >= _LOAD_INTERVAL_S:
            load = engine.load()
            if load != reported:
                channel.send(load)
                reported, reported_at = load, now


def _open(channel: BlockingFrameChannel[Any], config: EngineConfig) -> Any:
    """Load the model and say so; None if that can never work."""
    channel.send(Progress("starting", 0.0))
    try:
        from openledger.kernels.engine.engine import ServingEngine
        from openledger.kernels.model.errors import ModelError
        from openledger.kernels.model.load import load_bf16
        from openledger.kernels.parallel.load import load_parallel
    except ImportError as error:
        channel.send(Unusable("packages_missing", f"{error}: run `pip install openledger-node[serve]`"))
        return None
    try:
        config.check()
        file = None if config.model_file is None else Path(config.model_file)

        def progress(stage: str, fraction: float) -> None:
            channel.send(Progress(stage, fraction))

        if config.numerics == "bf16":
            model = load_bf16(
                Path(config.cache_folder), model_file=file, threads=config.threads, backend=config.backend,
                progress=progress,
            )  # fmt: skip
        else:
            model = load_parallel(
                Path(config.cache_folder),
                config.tensor_parallel,
                model_file=file,
                threads=config.threads,
                linear=config.linear,
                weight_bits=config.weight_bits,
                backend=config.backend,
                progress=progress,
            )
        engine = ServingEngine(model, config)
    except ModelError as error:
        channel.send(Unusable(error.code, str(error)))
        return None
    except (ValueError, OSError) as error:
        channel.send(Unusable("bad_settings", str(error)))
        return None
    channel.send(Progress("compiling", 0.0))
    engine.warm_up()
    channel.send(
        Ready(
            model=model.config.name,
            weights_root=model.transformer.root,
            tokenizer_hash=model.tokenizer.hash,
            template_hash=model.tokenizer.template_hash,
            tables_root=model.tables_root,
            vocabulary=model.config.vocabulary,
            max_context=engine.max_context,
            numerics=model.numerics,
            linear=model.linear,
            threads=model.threads,
        )
    )
    return engine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    fd = parser.parse_args().fd
    # An interrupt from the terminal is the parent's to handle; it closes the channel.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel: BlockingFrameChannel[Any] = BlockingFrameChannel.from_fd(fd, ToWorker)
    try:
        serve(channel)
    except ChannelClosed:
        pass
    sys.stdout.flush()
    sys.stderr.flush()
    # Loader threads may still read an adapter; nothing here needs an orderly end.
    os._exit(0)


if __name__ == "__main__":
    main()
