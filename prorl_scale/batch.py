"""Samples -> packed micro-batches: no padding, each prompt once, balanced over ranks, the same number on each.

Everything here is a pure function of the whole mini-batch, which every rank holds.  So all ranks cut it alike without
a word of communication, and none waits in a collective for a micro-batch that another does not have.
"""

import bisect
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from prorl_mini import Sample, token_weights


@dataclass(frozen=True)
class Pieces:
    """Who attends to whom in a packed row.  A piece is a prompt, or an answer up to the token before its last.

    A prompt attends to itself, an answer to its prompt and to itself, both causally.
    """

    starts: Tensor  # (P + 1,) int32: where each piece begins in the row, and T
    keys: Tensor  # (K,) places in the row that pieces attend to, piece after piece
    key_starts: Tensor  # (P + 1,) int32: where each piece's part of `keys` begins, and K
    longest: int  # the most keys of one piece


@dataclass
class Packed:
    """One micro-batch: S samples in one row of T tokens, N answer tokens to be scored.

    A prompt stands in it once, however many answers it has; the last token of an answer is a target and nothing else.
    """

    ids: Tensor  # (1, T)
    positions: Tensor  # (1, T), from 0 within each sample
    pieces: Pieces
    before: Tensor  # (N,) place of the token just before each answer token
    targets: Tensor  # (N,) ids of the answer tokens
    lengths: list[int]  # (S,) answer tokens of each sample; their sum is N

    def split(self, values: Tensor) -> list[Tensor]:
        """Values of the answer tokens, sample by sample: (N,) -> S tensors, on the CPU."""
        return list(values.cpu().split(self.lengths))


def cut(samples: list[Sample], max_tokens: int, world: int) -> list[list[list[int]]]:
    """Spread samples over ranks and micro-batches -> [rank][micro-batch][places in `samples`].

    No micro-batch reads more than `max_tokens`, unless it is one sample.  Every rank gets the same number: a forward
    pass of a sharded model is a collective, and a rank that makes one more than the others waits for ever.  Where fewer
    will do, those left over are empty (see `pack`).

    Each is a stretch of the list, for there the answers to one prompt stand side by side, and are read with it once.
    Among such cuts this is one of the fewest micro-batches, and then of the smallest largest one.  Where samples are
    nearly as long as `max_tokens`, a free choice of samples would fill them better, but read prompts more often.

    >>> cut([Sample([1, 2, 3], [4, 5])] * 5, max_tokens=8, world=2)
    [[[0, 1, 2]], [[3, 4]]]
    """
    alone = [len(s.prompt) + len(s.answer) - 1 for s in samples]
    after = [  # tokens to read more where the sample before is in the same micro-batch
        len(s.answer) - 1 if i and s.prompt == samples[i - 1].prompt else alone[i] for i, s in enumerate(samples)
    ]
    count = math.ceil(len(_fill(alone, after, max_tokens)) / world) * world
    # The smallest limit that needs no more micro-batches makes the largest of them as small as can be.
    limit = bisect.bisect_left(range(max_tokens), True, key=lambda tokens: len(_fill(alone, after, tokens)) <= count)
    filled = _fill(alone, after, limit)
    filled.sort(key=lambda pair: -pair[0])  # so that those of one round are nearly equal
    bins = [places for _, places in filled] + [[] for _ in range(count - len(filled))]
    return [bins[rank::world] for rank in range(world)]


def _fill(alone: list[int], after: list[int], limit: int) -> list[tuple[int, list[int]]]:
    """Stretches of samples that read at most `limit` tokens, or are one sample -> (tokens, places) of each."""
    tokens, bins = [], []
    for i in range(len(alone)):
        if bins and tokens[-1] + after[i] <= limit:
            tokens[-1] += after[i]
            bins[-1].append(i)
        else:
            tokens.append(alone[i])
            bins.append([i])
    return list(zip(tokens, bins, strict=True))


def pack(samples: list[Sample], device: Any) -> Packed:
    """Lay samples end to end.  None at all gives two tokens without an answer: a forward pass that teaches nothing."""
    row: list[int] = []
    pieces: list[tuple[range, list[int]]] = []  # places of a piece, and of what it attends to

    def lay(tokens: list[int], context: range = range(0)) -> range:
        places = range(len(row), len(row) + len(tokens))
        row.extend(tokens)
        pieces.append((places, [*context, *places]))
        return places

    prompts: dict[tuple[int, ...], range] = {}
    before: list[int] = []
    for s in samples:
        key = tuple(s.prompt)
        if key not in prompts:
            prompts[key] = lay(s.prompt)
        read = lay(s.answer[:-1], prompts[key]) if len(s.answer) > 1 else ()
        before += [prompts[key][-1], *read][: len(s.answer)]
    if not samples:
        lay([0, 0])
    return Packed(
        ids=torch.tensor([row], device=device),
        positions=torch.cat([torch.arange(len(keys) - len(own), len(keys)) for own, keys in pieces])[None].to(device),
        pieces=Pieces(
            starts=_bounds([len(own) for own, _ in pieces]).to(device),
            keys=torch.tensor([place for _, keys in pieces for place in keys], device=device),
            key_starts=_bounds([len(keys) for _, keys in pieces]).to(device),
            longest=max(len(keys) for _, keys in pieces),
        ),
        before=torch.tensor(before, dtype=torch.long, device=device),
        targets=torch.tensor([t for s in samples for t in s.answer], dtype=torch.long, device=device),
        lengths=[len(s.answer) for s in samples],
    )


def _bounds(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths], dtype=torch.int32).cumsum(0, dtype=torch.int32)


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
