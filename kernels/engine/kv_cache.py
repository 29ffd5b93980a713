"""Which pages of the key/value cache belong to whom."""


class PageAllocator:
    """Hands out page numbers; the last given back is the first handed out, so few pages stay warm."""

    def __init__(self, pages: int, page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self.total = pages
        self._free = list(range(pages - 1, -1, -1))

    @property
    def free(self) -> int:
        return len(self._free)

    def needed(self, tokens: int) -> int:
        """Pages for so many positions."""
        return -(-tokens // self.page_tokens)

    def take(self, tokens: int) -> list[int] | None:
        """Pages for so many positions; None if there are not enough."""
        count = self.needed(tokens)
        if count > len(self._free):
            return None
        return [self._free.pop() for _ in range(count)]

    def give_back(self, pages: list[int]) -> None:
        self._free.extend(reversed(pages))
