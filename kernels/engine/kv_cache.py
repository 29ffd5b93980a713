"""Which pages of the key/value cache belong to whom, and which are kept for prompts that begin alike.

A page that is full says the same for every sequence with the same tokens up to its end, the same adapters and the same
salt; exactness makes it the same to the bit. Its key is a hash chain over just that. Pages with a key stay when nobody
uses them any more, the most recently used ones up to a limit, and are lent to whoever begins alike.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np


def prefix_start(adapters: Sequence[bytes], salt: bytes) -> bytes:
    """The chain's beginning: digests of the adapters in order (32 bytes each), then the salt."""
    return blake2b(b"".join(adapters) + b"\0" + salt, digest_size=32).digest()


def prefix_next(before: bytes, tokens: Sequence[int]) -> bytes:
    """The key of a page with these tokens after the page with the key `before`."""
    return blake2b(before + np.asarray(tokens, "<u4").tobytes(), digest_size=32).digest()


class PageAllocator:
    """Lends page numbers; the last given back is the first handed out, so few pages stay warm."""

    def __init__(self, pages: int, page_tokens: int, kept_tokens: int = 0) -> None:
        """`kept_tokens`: the most positions of pages that are kept though nobody uses them."""
        self.page_tokens = page_tokens
        self.total = pages
        self._free = list(range(pages - 1, -1, -1))
        self._users = [0] * pages
        self._most_idle = kept_tokens // page_tokens
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # kept and unused, the least recently used first

    @property
    def free(self) -> int:
        """Pages that can be handed out."""
        return len(self._free) + len(self._idle)

    @property
    def keeps(self) -> bool:
        """Whether pages are kept at all."""
        return self._most_idle > 0

    def needed(self, tokens: int) -> int:
        """Pages for so many positions."""
        return -(-tokens // self.page_tokens)

    def take(self, tokens: int, prefix: Sequence[bytes] = (), *, spare: int = 0) -> tuple[list[int], int] | None:
        """Pages for so many positions, and how many of them begin with what is kept under the keys of `prefix`, in
        order. None if there are not enough, or fewer than `spare` would be left."""
        found = []
        for key in prefix:
            page = self._page_of.get(key)
            if page is None:
                break
            found.append(page)
        fresh = self.needed(tokens) - len(found)
        if fresh > self.free - sum(page in self._idle for page in found) - spare:
            return None
        for page in found:
            self._idle.pop(page, None)
            self._users[page] += 1
        return found + [self._fresh() for _ in range(fresh)], len(found)

    def keep(self, page: int, key: bytes) -> None:
        """The page is full, and this is its key. Where another one with that key is known, that one serves."""
        if self.keeps and key not in self._page_of and page not in self._key_of:
            self._page_of[key], self._key_of[page] = page, key

    def give_back(self, pages: Sequence[int]) -> None:
        """One user less of each. The end of a sequence is let go before its beginning."""
        for page in reversed(pages):
            self._users[page] -= 1
            if self._users[page]:
                continue
            if page in self._key_of:
                self._idle[page] = None
            else:
                self._free.append(page)
        while len(self._idle) > self._most_idle:
            self._free.append(self._let_go())

    def _fresh(self) -> int:
        page = self._free.pop() if self._free else self._let_go()
        self._users[page] = 1
        return page

    def _let_go(self) -> int:
        """Forget what the least recently used page holds."""
        page, _ = self._idle.popitem(last=False)
        del self._page_of[self._key_of.pop(page)]
        return page
