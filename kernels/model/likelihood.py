"""How likely a token was, for people: natural logarithms, in binary64, of the model's own probabilities."""

import torch
from torch import Tensor


def likelihood(logits: Tensor, token: int, count: int) -> tuple[float, list[tuple[int, float]]]:
    """`logits` [V]: the log-probability of `token`, and the `count` likeliest tokens with theirs, among equals the
    smallest token first."""
    values = logits.double()
    total = torch.logsumexp(values, 0)
    count = min(count, len(values))
    least = torch.topk(values, count).values[-1]
    tokens = torch.nonzero(values >= least)[:, 0]
    best = sorted(zip((-(values[tokens] - total)).tolist(), tokens.tolist()))[:count]
    return float(values[token] - total), [(each, -negative) for negative, each in best]
