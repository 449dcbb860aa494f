"""Samples -> packed micro-batches: no padding, balanced over ranks, the same number on each.

Everything here is a pure function of the whole mini-batch, which every rank holds.  So all ranks cut it alike without
a word of communication, and none waits in a collective for a micro-batch that another does not have.
"""

import heapq
import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prorl_mini import Sample, token_weights


@dataclass
class Packed:
    """One micro-batch: S samples end to end in one row of T tokens, N of them answer tokens."""

    ids: Tensor  # (1, T)
    positions: Tensor  # (1, T), from 0 within each sample
    starts: Tensor  # (S + 1,) int32: where each sample starts, and T
    longest: int
    before: Tensor  # (N,) index of the token just before each answer token
    targets: Tensor  # (N,) ids of the answer tokens
    lengths: list[int]  # (S,) answer tokens of each sample; their sum is N

    def split(self, values: Tensor) -> list[Tensor]:
        """Values of the answer tokens, sample by sample: (N,) -> S tensors, on the CPU."""
        return list(values.cpu().split(self.lengths))


def cut(lengths: list[int], max_tokens: int, world: int) -> list[list[list[int]]]:
    """Spread samples over ranks and micro-batches -> [rank][micro-batch][indices into `lengths`].

    No micro-batch exceeds `max_tokens`, unless one sample alone does.  Every rank gets the same number: a forward pass
    of a sharded model is a collective, and a rank that makes one more than the others waits for ever.  Where samples
    are fewer than that takes, a micro-batch is empty (see `pack`).

    >>> cut([7, 1, 3, 5], max_tokens=8, world=2)
    [[[0, 1]], [[3, 2]]]
    """
    rounds = min(math.ceil(sum(lengths) / (max_tokens * world)), math.ceil(len(lengths) / world))
    while True:
        bins = _fill_bins(lengths, rounds * world)
        if all(len(b) <= 1 or sum(lengths[i] for i in b) <= max_tokens for b in bins):
            break
        rounds += 1
    bins.sort(key=lambda b: -sum(lengths[i] for i in b))  # so that the bins of one round are nearly equal
    return [bins[rank::world] for rank in range(world)]


def _fill_bins(lengths: list[int], count: int) -> list[list[int]]:
    """The longest sample first, each into the bin that holds the least so far."""
    bins: list[list[int]] = [[] for _ in range(count)]
    heap = [(0, i) for i in range(count)]
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        load, i = heapq.heappop(heap)
        bins[i].append(index)
        heapq.heappush(heap, (load + lengths[index], i))
    return bins


def pack(samples: list[Sample], device: Any) -> Packed:
    """Concatenate samples.  None at all gives two tokens without an answer: a forward pass that teaches nothing."""
    rows = [s.prompt + s.answer for s in samples] or [[0, 0]]
    ends = list(itertools.accumulate(map(len, rows), initial=0))
    before = [
        start + len(s.prompt) - 1 + i for start, s in zip(ends, samples, strict=False) for i in range(len(s.answer))
    ]
    return Packed(
        ids=torch.tensor([list(itertools.chain(*rows))], device=device),
        positions=torch.cat([torch.arange(len(row)) for row in rows])[None].to(device),
        starts=torch.tensor(ends, dtype=torch.int32, device=device),
        longest=max(map(len, rows)),
        before=torch.tensor(before, dtype=torch.long, device=device),
        targets=torch.tensor([t for s in samples for t in s.answer], dtype=torch.long, device=device),
        lengths=[len(s.answer) for s in samples],
    )


def answer_weights(samples: list[Sample], num_tokens: int, num_answers: int, level: str) -> Tensor:
    """`token_weights` of packed answers -> (N,).  num_tokens and num_answers: of the mini-batch, over all ranks."""
    masks = [torch.ones(1, len(s.answer), dtype=torch.bool) for s in samples]
    return torch.cat([torch.zeros(0), *(token_weights(m, num_tokens, num_answers, level)[0] for m in masks)])


def column(samples: list[Sample], name: str) -> Tensor:
    """A per-token field (`old_logp`, `ref_logp`) of packed answers -> (N,); a number is repeated along its answer."""
    values = [getattr(s, name) for s in samples]
    rows = [
        v if isinstance(v, Tensor) else torch.full((len(s.answer),), v) for s, v in zip(samples, values, strict=True)
    ]
    return torch.cat([torch.zeros(0), *rows])
