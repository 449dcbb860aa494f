"""What a step costs in seconds, phase by phase, from the settings, the model's shape, the device and its number.

    step_seconds(config, Site(shape, device, ranks), Guess()) -> {"generate": 51.3, "reward": ...}

Arithmetic alone.  `config` is any of the three programs'.  A pass through the model takes as long as its matrix
products at the device's rate and the traffic between them at its bandwidth; writing is such a pass for one token an
answer, again and again, which reads all weights and all keys and values.  What is assumed about answers stands in
`Guess`, what a device reaches of its data sheet in `Rates`, and what the programs do differently in `Program`.
"""

import dataclasses
import functools
import heapq
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from prorl_lab import devices
from prorl_lab.devices import Device
from prorl_lab.laptop import CONTEXT, EVAL_LENGTHS
from prorl_lab.mfu import forward_flops
from prorl_lab.shapes import FULL, Shape, layer_activations

PHASES = ("generate", "reward", "logprobs", "update", "push", "rest", "validation", "saving")


# ---------------------------------------------------------------- what is assumed


@dataclass(frozen=True)
class Guess:
    """What no setting says about prompts and answers.  A run replaces it by what it has seen."""

    keep: float = 0.45  # share of groups with contrast: results of peers lie between 0.3 and 0.6
    mean_answer: float = 0.5  # tokens, as a share of max_new_tokens (ProRL, Fig. 2: 0.4 to 0.7)
    spread: float = 0.8  # standard deviation of the logarithm of a length
    prompt: int = 300  # tokens
    verdict: float = 0.05  # processor seconds to verify an answer (results/2026-11-23-verifiers; programs take longer)
    verifiers: int = 8  # workers of a rank
    canary: int = 10  # prompts that both engines score after a push: two of each tier, see `start.canary_rows`


@dataclass(frozen=True)
class Rates:
    """Which share of its data sheet a device reaches, and what the host adds.  Sources behind each."""

    matmul: float = 0.5  # of peak FLOP/s; fitted to supervised training of 0.6B and 4B (prime-rl, H100, 16k tokens)
    memory: float = 0.8  # of the bandwidth, by operations that only pass over a tensor; assumed
    decode: float = 0.6  # of the bandwidth, by a decoding step: many small kernels; assumed
    link: float = 0.7  # of the bandwidth between devices; assumed
    node_link: float = 450e9  # bytes/s of one device to those of its node: NVLink 4, data sheet
    far_link: float = 50e9  # bytes/s of one device to other nodes: a 400 Gbit/s card each
    host_link: float = 20e9  # bytes/s to the host's memory: PCIe 5 x16 without pinning; assumed
    per_node: int = 8  # devices
    collective: float = 5e-5  # seconds that one takes whatever its size; assumed
    exchange: float = 1.2e-7  # seconds of the host for a token: to every rank, packing, metrics; measured on one core
    # Counted by tests/test_cost.py, operation by operation, for the Qwen2 of transformers 5.19 and `ChunkedLogprobs`:
    traffic: float = 3.4  # bytes that a layer's forward pass reads and writes, over those that its backward pass needs
    logit: float = 24.0  # bytes read and written for each logit, forward
    entropy: float = 1.2  # times that once more for entropies,
    logit_backward: float = 3.3  # and for the backward pass
    layer_launches: int = 80  # operations of a layer, forward
    head_launches: int = 17  # of a chunk of the head, the same


@dataclass(frozen=True)
class Program:
    """How a program does what costs time."""

    writer_step: float  # seconds of the host for a decoding step,
    writer_row: float  # for each answer in it,
    writer_answer: float = 0.0  # and for an answer as a whole: to take it in, and to hand it out
    eager: bool = False  # is a decoding step written as transformers computes it, or in fused kernels?
    cache_moves: float = 1.0  # times that keys and values are read or written in a decoding step
    packed: bool = True  # no padding, and each prompt read once; else micro-batches are cut and padded as in mini
    repeats: float = 0.0  # times that a prompt's keys and values are read or written for each of its answers
    piece_launches: int = 0  # operations of a layer for each prompt and answer; a kernel for ragged rows needs none
    beside: bool = True  # are answers verified while others are written?
    old_always: bool = False  # are the old log-probs computed even where there is one update a step
    reload: float = 0.0  # seconds to hand the sampler its weights,
    reload_byte: float = 0.0  # for each byte of them,
    reload_moves: float = 0.0  # or times that they are read or written,
    reload_launches: int = 0  # and operations of the host for each tensor
    tensor_step: float = 0.0  # seconds of the host for each weight tensor in an optimizer step


# Host: of vLLM's Python 1.6 ms a step at 128 answers without log-probs, 2.3 with, 9.7 at 512, measured without a model.
# Reload: fitted to four in place of 0.5B to 7B (vLLM PR 48382: 0.32, 0.35, 2.07, 3.3 s).
VLLM = Program(writer_step=5e-4, writer_row=1.8e-5, reload=0.12, reload_byte=2.15e-10)
# prorl_mini: each step reads the cache and copies it twice, to append to it and to drop the rows that are finished.
MINI = Program(
    writer_step=1e-3,
    writer_row=2e-6,
    eager=True,
    cache_moves=5.0,
    packed=False,
    repeats=5.0,
    beside=False,
    old_always=True,
)


# A CPU: what is measured (`devices.cpu`) is already what is reached, and ranks meet over gloo within one machine.
CPU = Rates(matmul=1.0, memory=1.0, decode=1.0, link=1.0, node_link=2e9, far_link=1e8, collective=5e-4)
# vLLM's CPU build, synchronous; the first three are means of two fits to calls of 16 to 512 answers by
# bench/step_cost.py, of 6.9 and 4.6 ms a step: a processor second is worth less where neighbours share its caches.
# A reload takes what 100 operations do for each tensor, fitted to models of 4, 8 and 16 layers (0.45 to 0.6 ms each),
# and copies the weights twice: into a layer of their own, and from there into the one in use (model_loader/reload).
VLLM_CPU = Program(
    writer_step=5.7e-3, writer_row=9.4e-5, writer_answer=2.5e-5, piece_launches=8, reload_moves=4, reload_launches=100,
    tensor_step=2e-4,
)  # fmt: skip
# There, attention of one query costs some 2 microseconds for each head and layer, and that of an answer as a whole what
# 8 operations of a layer do: torch's kernel goes from row to row.  Both are fitted to the laptop model.
MINI_CPU = dataclasses.replace(MINI, writer_row=3.5e-5, piece_launches=8)


# ---------------------------------------------------------------- answers


@functools.lru_cache(maxsize=64)
def answer_lengths(count: int, mean: float, limit: int, spread: float) -> tuple[int, ...]:
    """So many lengths of answers, in order: the quantiles of a log-normal distribution cut at `limit`, with this mean.

    spread: standard deviation of the logarithm, before the cut.  A few quantiles miss the tail: their mean is lower.

    >>> answer_lengths(5, 50, 100, 0.8)
    (15, 28, 43, 65, 100)
    """
    normal = NormalDist()

    def cut_mean(middle: float) -> float:  # of min(limit, X), where log X is normal around log middle
        distance = math.log(limit / middle) / spread
        below = middle * math.exp(spread**2 / 2) * normal.cdf(distance - spread)
        return below + limit * (1 - normal.cdf(distance))

    low, high = 1e-3, 1e3 * limit
    for _ in range(60):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if cut_mean(middle) < mean else (low, middle)
    scores = (math.exp(spread * normal.inv_cdf((i + 0.5) / count)) for i in range(count))
    return tuple(min(limit, max(1, round(high * score))) for score in scores)


def groups_of(lengths: Sequence[int], prompt: int, answers: int) -> list[tuple[int, Sequence[int]]]:
    """Lengths dealt out to prompts of `answers` each -> what `mfu.forward_flops` reads."""
    prompts = max(1, len(lengths) // answers)
    return [(prompt, lengths[i::prompts]) for i in range(prompts)]


@dataclass(frozen=True)
class Site:
    """A model on its devices, one a rank, in one of the programs."""

    shape: Shape
    device: Device
    ranks: int = 1
    program: Program = VLLM
    rates: Rates = Rates()
    half: bool = True  # computed in bfloat16

    @property
    def width(self) -> int:
        """Bytes of a weight, and of a key or value, where it is computed with."""
        return 2 if self.half else FULL

    def takes(self, flops: float, moved: float = 0.0) -> float:
        """Seconds of a pass over tensors: its matrix products, and the traffic between them."""
        return flops / (self.device.flops * self.rates.matmul) + moved / (self.device.bandwidth * self.rates.memory)

    def beside(self, computing: float, other: float) -> float:
        """What runs ahead of a GPU, or beside it, is only seen where it is the slower one; on a CPU it takes turns."""
        return max(computing, other) if self.device.asynchronous else computing + other

    def room(self, config: Any, tokens: float) -> int:
        """Answers of so many tokens whose keys and values fit beside the sampler's weights in its share of memory."""
        if not getattr(config, "gpu_memory", 0) or not self.device.memory:
            return config.rollout_batch
        shape, width = self.shape, self.width
        free = config.gpu_memory * self.device.memory - width * shape.weights
        return max(1, int(free // (2 * width * shape.layers * shape.kv * tokens)))

    def travels(self, size: float, collectives: int) -> float:
        """Seconds until each rank has, or has given, its part of `size` bytes that all ranks hold together."""
        rates = self.rates
        link = rates.node_link if self.ranks <= rates.per_node else rates.far_link
        return size * (self.ranks - 1) / self.ranks / (link * rates.link) + collectives * rates.collective


def site_of(config: Any, shape: Shape, gpu: Device | None, ranks: int = 1, program: Program | None = None) -> Site:
    """The model on so many of these GPUs; without one on this machine's CPU, which is measured.

    program: by default `prorl_mini`'s.
    """
    half = config.dtype == "bfloat16"
    if gpu:
        return Site(shape, gpu, ranks, program or MINI, half=half)
    return Site(shape, devices.cpu(config.microbatch_tokens, shape.hidden), ranks, program or MINI_CPU, CPU, half)


def guess_of(config: Any) -> Guess:
    """What is guessed for these settings; prompts are taken for half of their limit long, at most 300 tokens."""
    limit = config.max_prompt_tokens or (CONTEXT if config.model == "laptop" else 2 * Guess.prompt)
    verdict = 2e-6 if config.model == "laptop" else Guess.verdict  # comparing two lists of words
    canary = 2 * len(EVAL_LENGTHS) if config.model == "laptop" else Guess.canary
    return Guess(prompt=min(Guess.prompt, max(1, limit // 2)), verdict=verdict, canary=canary)


# ---------------------------------------------------------------- writing


def decode_step(site: Site, rows: float, cached: float) -> float:
    """Seconds of one decoding step: `rows` answers at once, `cached` tokens before them in all.

    Weights are read once for all answers, keys and values once for each.
    """
    shape, size, width, program = site.shape, site.shape.size, site.width, site.program
    weights, values = size.body + size.head, 2 * shape.layers * shape.kv

    def takes(flops: float, moved: float) -> float:  # one kind of kernel: the slower of the two hides the other
        rates, device = site.rates, site.device
        return max(flops / (device.flops * rates.matmul), moved / (device.bandwidth * rates.decode))

    matrices = takes(2 * weights * rows, width * weights)
    attention = takes(4 * size.attention * cached, program.cache_moves * width * values * cached)
    logits = takes(0, site.rates.logit * shape.vocabulary * rows)
    host = program.writer_step + program.writer_row * rows
    if program.eager:
        matrices += takes(0, site.rates.traffic * layer_activations(shape, site.half) * shape.layers * rows)
        host += (site.rates.layer_launches * shape.layers + site.rates.head_launches) * site.device.launch
    return site.beside(matrices + attention + logits, host)


def write_seconds(lengths: Sequence[int], prompt: float, slots: int, step: Callable[[float, float], float]) -> float:
    """Continuous batching: at most `slots` answers are written at once, and the next begins when one ends.

    step: rows, tokens before them -> seconds of a decoding step.  Between two ends the rows stay the same, so these
    steps are taken together, with as many tokens before them as in their middle.
    """
    waiting = list(lengths)
    random.Random(0).shuffle(waiting)  # which are long is not known beforehand
    ends: list[tuple[int, int]] = []  # decoding step at which an answer ends, and its length
    now, cached, seconds = 0, 0.0, 0.0
    while waiting or ends:
        while waiting and len(ends) < slots:
            length = waiting.pop()
            heapq.heappush(ends, (now + length, length))
            cached += prompt
        rows, steps = len(ends), ends[0][0] - now
        seconds += steps * step(rows, cached + rows * steps / 2)
        now, cached = now + steps, cached + rows * steps
        while ends and ends[0][0] == now:
            cached -= prompt + heapq.heappop(ends)[1]
    return seconds


def generate_seconds(site: Site, lengths: Sequence[int], prompt: float, answers: int, slots: int) -> float:
    """Seconds until the last rank has written its share of these answers, `answers` to a prompt, prompts read included.

    Each rank's lengths are typical, but its longest is the longest of all: they wait for each other.
    """
    share = sorted(lengths, reverse=True)[:: site.ranks]
    prefill = site.takes(2 * site.shape.size.body * prompt * len(share) / answers)
    writing = write_seconds(share, prompt, slots, lambda rows, cached: decode_step(site, rows, cached))
    return prefill + writing + site.program.writer_answer * len(share)


def rounds(config: Any, keep: float) -> tuple[float, float]:
    """Rounds of writing in a step, on average, and how many times `prompts_per_step` each of them draws.

    Groups beyond a step's need wait for the next, so in the long run a step draws as many prompts as it needs and no
    more.  In rounds of P, each waits for its longest answer; drawn ahead, all wait once.
    """
    if not config.dynamic_sampling:
        return 1.0, 1.0
    needed = min(1 / keep, float(config.max_rounds))
    return (needed, 1.0) if config.draw == "rounds" else (1.0, needed)


# ---------------------------------------------------------------- passes through the model


def pass_seconds(
    site: Site, groups: list[tuple[int, Sequence[int]]], microbatch: int, batches: int = 1,
    backward: bool = False, checkpointing: bool = False, entropy: bool = False,
) -> float:  # fmt: skip
    """Seconds to score these groups, shared by all ranks, and with `backward` to differentiate that.

    A backward pass costs two forward ones.  Logits are always computed again in it, the layers with checkpointing.
    batches: mini-batches that they are cut into, each of them in micro-batches of so many tokens.
    """
    shape, rates, program = site.shape, site.rates, site.program
    body, head = forward_flops(shape.size, groups)
    answers = sum(sum(lengths) for _, lengths in groups)
    tokens = answers + sum(prompt - len(lengths) for prompt, lengths in groups)
    share = site.ranks
    if program.packed:
        each, padded = math.ceil(tokens / batches / share / microbatch) * batches, 1.0  # micro-batches of a rank
    else:
        each, computed = padded_batches(groups, microbatch, batches, backward and checkpointing)
        padded = computed / max(1, tokens)
    bodies, heads = (3 + checkpointing, 4) if backward else (1, 1)  # as many forward passes
    passes = 1 + rates.entropy * entropy + rates.logit_backward * backward  # over the logits
    repeated = program.repeats * 2 * site.width * shape.kv * sum(prompt * len(lengths) for prompt, lengths in groups)
    moved = tokens * shape.layers * rates.traffic * layer_activations(shape, site.half) * bodies
    logits = answers * shape.vocabulary * rates.logit * passes
    moved = padded * moved + repeated * shape.layers * bodies + logits
    computing = site.takes((padded * body * bodies + head * heads) / share, moved / share)
    pieces = sum(1 + len(lengths) for _, lengths in groups) / share
    operations = each * (shape.layers * rates.layer_launches * bodies + rates.head_launches * heads)
    operations += pieces * shape.layers * program.piece_launches * bodies
    computing = site.beside(computing, operations * site.device.launch)
    return site.beside(computing, each * _gathers(site, backward) if site.ranks > 1 else 0.0)


def padded_batches(
    groups: list[tuple[int, Sequence[int]]], microbatch: int, batches: int, alone: bool
) -> tuple[int, int]:
    """Micro-batches that `prorl_mini` cuts these groups into, and the tokens of their bodies, padding included.

    Prompts are padded to the longest of a micro-batch, and answers, without their last token; each prompt of it is read
    once.  alone: once for each answer, as with gradient checkpointing.
    """
    from prorl_mini import Sample, mini_batches, split_microbatches  # the rules; only now, for mini reads this package

    samples = [[Sample(prompt, range(n)) for n in lengths] for prompt, lengths in ((range(p), a) for p, a in groups)]
    parts = [part for some in mini_batches(samples, batches) for part in split_microbatches(some, microbatch)]
    tokens = 0
    for part in parts:
        prompts = {id(sample.prompt): len(sample.prompt) for sample in part}
        read = len(part) if alone else len(prompts)
        tokens += read * max(prompts.values()) + len(part) * (max(len(sample.answer) for sample in part) - 1)
    return len(parts), tokens


def _gathers(site: Site, backward: bool) -> float:
    """Seconds in which the ranks gather the weights for one micro-batch; with `backward` twice, and sum gradients.

    Gradients travel in float32 (`policy.shard`).
    """
    size = site.shape.weights * (2 * site.width + FULL if backward else site.width)
    return site.travels(size, (site.shape.layers + 1) * (3 if backward else 1))


def optimizer_seconds(site: Site) -> float:
    """One step of AdamW on each rank's shard: four tensors read, three written; and the gradient's norm."""
    moved = 10 * FULL * site.shape.weights / site.ranks
    return site.beside(site.takes(0, moved), site.program.tensor_step * (12 * site.shape.layers + 3))


def reload_seconds(site: Site) -> float:
    """Gather the weights as the sampler reads them, and hand them over."""
    size, tensors, program = site.width * site.shape.weights, 12 * site.shape.layers + 3, site.program
    gather = site.travels(size, tensors) if site.ranks > 1 else 0.0
    copying = site.takes(0, program.reload_moves * size)
    return (
        gather
        + site.beside(copying, program.reload_launches * tensors * site.device.launch)
        + program.reload
        + program.reload_byte * size
    )


def push_seconds(site: Site, guess: Guess, microbatch: int) -> float:
    """A reload, and the canary's rows scored by the trainer, whose ranks share them, and by each sampler."""
    if site.program.eager:  # it writes with the trainer's own weights
        return 0.0
    trainer = pass_seconds(site, [(1, [guess.prompt])] * guess.canary, microbatch)
    alone = dataclasses.replace(site, ranks=1)
    sampler = generate_seconds(alone, [1] * guess.canary, guess.prompt, 1, guess.canary)
    tokens = guess.canary * guess.prompt  # each of which the sampler computes the logits of, too
    heads = site.takes(2 * site.shape.size.head * tokens, site.rates.logit * site.shape.vocabulary * tokens)
    return reload_seconds(site) + trainer + sampler + heads


# ---------------------------------------------------------------- a step


def step_seconds(config: Any, site: Site, guess: Guess = Guess()) -> dict[str, float]:
    """Seconds of a step by phase, as metrics.jsonl has them; validation and saving as their share of a step.

    config: settings of `prorl_mini`, `prorl_v2` or `prorl_scale`, none of them open.
    """
    answers, updates = config.answers_per_prompt, config.updates_per_step
    count, more = rounds(config, guess.keep)

    def lengths(prompts: float) -> tuple[int, ...]:
        number = max(1, round(prompts * answers))
        return answer_lengths(number, guess.mean_answer * config.max_new_tokens, config.max_new_tokens, guess.spread)

    written, trained = lengths(more * config.prompts_per_step), lengths(config.prompts_per_step)
    groups = groups_of(trained, guess.prompt, answers)
    slots = min(config.rollout_batch, site.room(config, guess.prompt + guess.mean_answer * config.max_new_tokens))
    generate = count * generate_seconds(site, written, guess.prompt, answers, slots)
    verifying = guess.verdict * count * len(written) / site.ranks / guess.verifiers  # while others are written
    logprobs = pass_seconds(site, groups, config.microbatch_tokens) if config.kl_coef > 0 else 0.0
    if updates > 1 or site.program.old_always:
        logprobs += pass_seconds(site, groups, config.microbatch_tokens, entropy=True)
    update = pass_seconds(
        site, groups, config.microbatch_tokens, updates, backward=True, checkpointing=config.gradient_checkpointing
    )
    validation = 0.0
    if config.eval_every:
        tiers = len(config.eval_sets or (1,))
        asked = lengths(tiers * config.eval_prompts * config.eval_answers / answers)
        validation = generate_seconds(site, asked, guess.prompt, config.eval_answers, slots) / config.eval_every
    state = 4 * FULL * site.shape.weights / site.ranks  # policy, reference, two moments
    return {
        "generate": generate,
        "reward": max(0.0, verifying - generate) + guess.verdict if site.program.beside else verifying,
        "logprobs": logprobs,
        "update": update + updates * optimizer_seconds(site),
        "push": push_seconds(site, guess, config.microbatch_tokens),
        "rest": site.rates.exchange * count * sum(written),
        "validation": validation,
        "saving": state / site.rates.host_link / config.save_every,
    }
