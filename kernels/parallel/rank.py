"""A rank other than 0: `python -m openledger.kernels.parallel.rank --fd N`. Runs what rank 0 tells it, ends with it."""

import argparse
import os
import queue
import signal
import sys
import threading
import traceback
from typing import Any

from openledger.kernels.engine.adapters import ModuleWeights
from openledger.kernels.framing import BlockingFrameChannel, ChannelClosed
from openledger.kernels.parallel.messages import Drop, Join, Module, Placed, Rows, ToRank


def serve(inbox: "queue.SimpleQueue[Any]", join: Join) -> None:
    """Never returns: the process ends when rank 0 does."""
    from openledger.kernels.engine.residency import stack_adapter
    from openledger.kernels.model.transformer import KvCache, Lora
    from openledger.kernels.parallel.load import load_share

    transformer = load_share(join)
    steps, config = transformer.steps, transformer.config
    arriving: dict[int, dict[tuple[int, str], ModuleWeights]] = {}
    adapters: dict[int, Lora] = {}
    cache, number = None, 0
    while True:
        message = inbox.get()
        if isinstance(message, Rows):
            if cache is None or number != message.cache:
                cache = None  # the old pages go before the new ones come
                cache, number = KvCache(config, message.pages, message.page_tokens, steps), message.cache
            transformer.forward(message.batch(adapters), cache)
        elif isinstance(message, Module):
            modules = arriving.setdefault(message.adapter, {})
            modules[message.layer, message.name] = message.weights()
        elif isinstance(message, Placed):
            adapters[message.adapter] = stack_adapter(arriving.pop(message.adapter, {}), config, steps.array)
        elif isinstance(message, Drop):
            adapters.pop(message.adapter, None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    fd = parser.parse_args().fd
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel: BlockingFrameChannel[Any] = BlockingFrameChannel.from_fd(fd, ToRank)
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def read() -> None:
        try:
            while True:
                inbox.put(channel.receive())
        except ChannelClosed:
            # Rank 0 is gone; this one may be waiting for it in the middle of a step.
            os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    try:
        join = inbox.get()
        if not isinstance(join, Join):
            raise SystemExit("the first message must be Join")
        serve(inbox, join)
    except Exception:  # the process's edge: rank 0 reports how it ended
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


if __name__ == "__main__":
    main()
