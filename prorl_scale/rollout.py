"""vLLM inside the trainer's own process: writes answers, takes new weights, and proves that it has them."""

import contextlib
import functools
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from prorl_lab.errors import UserError, first_line
from prorl_lab.later import Later
from prorl_scale import distributed

AutoConfig = Later("transformers", "AutoConfig")


def import_vllm() -> Any:
    """The module, with the settings that it reads when it is imported.  Raises UserError where it is missing."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # else it ties every rank to the same cores
    try:
        import vllm
    except ImportError as error:
        raise UserError(
            f"vLLM can't be imported ({error}): `pip install -r requirements.txt` on a GPU machine, else the CPU "
            "build, by `make scale-cpu` or `pip install --no-deps -r requirements-cpu.txt`"
        ) from error
    return vllm


def open_model(vllm: Any, folder: str, advice: str, **settings: Any) -> Any:
    """vLLM on the model in `folder`, once it has written a token: what its kernels can't compute shows only then.

    That token is the likeliest, so no random number is drawn for it.  Raises UserError, with `advice`, for whatever
    vLLM raises: a shortage of memory, a context that is too long, a model's parts, a size of its heads.
    """
    try:
        # The model folder's own generation_config.json could cut the distribution's tail.
        llm = vllm.LLM(folder, generation_config="vllm", **settings)
        one = vllm.SamplingParams(temperature=0, max_tokens=1, detokenize=False)
        llm.generate([{"prompt_token_ids": [0]}], one, use_tqdm=False)
    except Exception as error:
        what = " ".join(str(error).split())[:200] or type(error).__name__  # the first line may only count mistakes
        raise UserError(f"vLLM does not start on {folder} ({what}): {advice}") from error
    return llm


class Engine:
    """One vLLM engine per rank.  Ranks generate on their own; only the weights of a push come from all of them."""

    top_p = 1.0  # less only while evaluating: training samples from the distribution that it scores

    def __init__(self, folder: str, config: Any, stop_ids: list[int], context: int):
        """Start on the weights in `folder`, for prompts and answers of at most `context` tokens together.

        Needs the process group.  Raises UserError where vLLM is missing or does not start.
        """
        vllm = import_vllm()
        self.gpu = config.device == "cuda"
        if not self.gpu:
            refuse_experts(AutoConfig.from_pretrained(folder))
        self.config, self.stop_ids, self.sampling = config, stop_ids, vllm.SamplingParams
        self.dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
        # What differs on a GPU; none of it has been run yet.
        device = {"enable_sleep_mode": True, "gpu_memory_utilization": config.gpu_memory} if self.gpu else {}
        self.llm = open_model(
            vllm, folder,
            "lower --max-new-tokens or --max-prompt-tokens, or change --gpu-memory, if that is what it lacks; a model "
            "that it can't serve trains with prorl_mini.py",
            dtype=str(self.dtype).removeprefix("torch."),
            distributed_executor_backend="external_launcher",
            tensor_parallel_size=1,
            seed=config.seed,
            enforce_eager=not self.gpu,
            max_num_seqs=config.rollout_batch,
            max_model_len=context,
            logprobs_mode="processed_logprobs",  # after the temperature, as the trainer computes them
            # As the trainer's head, see `models.accurate_product`; read by vLLM 0.32's layers/logits_processor.py.
            hf_overrides={"head_dtype": "float32"},
            **device,
        )  # fmt: skip
        # A tied head comes under its own name too.  vLLM 0.32 needs that where it keeps a head (Llama, Qwen, Gemma 3),
        # which would stay the old one, and refuses it where the embedding serves as head (Gemma 2, Cohere).
        (self.has_head,) = self.llm.apply_model(lambda model: hasattr(model, "lm_head"))

    def generate(
        self,
        prompts: list[list[int]],
        num_answers: int,
        temperature: float,
        source: torch.Generator | list[int],
        finished: Callable[[int, list[tuple[list[int], Tensor]]], None] = lambda place, group: None,
    ) -> list[list[tuple[list[int], Tensor]]]:
        """P prompts -> P groups of (ids with EOS, log-prob of each under the sampler at this temperature and `top_p`).

        source: a generator to go on with, or a seed for each prompt, whose answers then depend on no other prompt.
        finished: called with a prompt's place and its group as soon as that is whole, while others are being written.
        """
        how = functools.partial(
            self.sampling, n=num_answers, temperature=temperature, top_p=self.top_p, logprobs=0, flat_logprobs=True,
            max_tokens=self.config.max_new_tokens, stop_token_ids=self.stop_ids, detokenize=False,
        )  # fmt: skip
        # On a CPU vLLM samples from torch's generator, and seeds of requests make it several times slower.  On a GPU it
        # has generators of its own, which only such seeds reach; answer i of a prompt gets the prompt's seed plus i.
        if self.gpu and isinstance(source, torch.Generator):
            source = torch.randint(2**31, (len(prompts),), generator=source, device=source.device).tolist()
        seeded = isinstance(source, list)
        each = [how(seed=seed) for seed in source] if seeded else how()
        self._forget()
        engine, groups = self.llm.llm_engine, {}
        # `LLM.generate` is these two steps, but it hands over nothing before everything is written.
        names = self.llm.enqueue([{"prompt_token_ids": p} for p in prompts], each, use_tqdm=False)
        first = int(names[0].partition("-")[0])  # requests are numbered in the order of the prompts
        draws = contextlib.nullcontext() if seeded else _draws_from(source)
        with draws, _progress(len(prompts) * num_answers) as progress:
            while engine.has_unfinished_requests():
                for request in filter(lambda r: r.finished, engine.step()):
                    place = int(request.request_id) - first
                    groups[place] = [(list(a.token_ids), _logprobs(a.token_ids, a.logprobs)) for a in request.outputs]
                    progress(groups[place])
                    finished(place, groups[place])
        return [groups[place] for place in range(len(prompts))]

    def score(self, rows: list[list[int]]) -> Tensor:
        """Log-probs at temperature 1 of every token but the first of each row, end to end."""
        how = self.sampling(temperature=0, max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False)
        self._forget()
        done = self.llm.generate([{"prompt_token_ids": row} for row in rows], how, use_tqdm=False)
        return torch.cat([_logprobs(row[1:], r.prompt_logprobs) for row, r in zip(rows, done, strict=True)])

    def _forget(self) -> None:
        """Empty the prefix cache: what it holds was computed with older weights, and a resumed run starts without."""
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache, so answers could follow from old weights")

    def push(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Replace the weights in place; `weights` (name, whole tensor) may be lazy.  Wakes a sleeping engine.

        A run does so once before its first step.  Raises UserError for a model whose weights vLLM gives other names.
        """
        if self.gpu:
            self.llm.wake_up(tags=["weights"])
        known = (pair for pair in weights if self.has_head or not pair[0].startswith("lm_head."))
        # The iterator matters: without one, vLLM would read the old weights from disk again.
        try:
            self.llm.collective_rpc("reload_weights", kwargs={"weights_iterator": known})
        except (ValueError, KeyError, AssertionError) as error:  # by vLLM's class of model: a name, or a shape
            raise UserError(
                f"vLLM does not take the weights of this model ({first_line(error):.120}): train it with prorl_mini.py"
            ) from error
        if self.gpu:
            self.llm.wake_up(tags=["kv_cache"])  # only now: both copies of the weights and the cache would not fit

    def sleep(self) -> None:
        """Free the GPU's memory for training; nothing on a CPU, where memory is not divided."""
        if self.gpu:
            self.llm.sleep(level=self.config.sleep_level)

    def close(self) -> None:
        """Stop the engine.  vLLM then takes all process groups apart, so this comes last."""
        self.llm.llm_engine.engine_core.shutdown()


def refuse_experts(config: Any) -> None:
    """Raise UserError for a mixture of experts.

    vLLM 0.32's CPU build packs its router, and no push brings that back: the sampler then is another model, by 0.15
    nats a token in a trial with unchanged weights.
    """
    config = config.get_text_config(decoder=True)
    many = any("experts" in name and isinstance(value, int) and value > 1 for name, value in vars(config).items())
    if many or "moe" in config.model_type:  # HunYuan's default has one expert, and the same layers
        raise UserError(
            f"{config.model_type} is a mixture of experts, which vLLM's CPU build ruins at the first weight push: "
            "train it on a GPU, or with prorl_mini.py"
        )


@contextlib.contextmanager
def _progress(answers: int) -> Iterator[Callable[[list], None]]:
    """A bar of finished answers, with tokens/s, on a terminal; call it with each group."""
    start, tokens = time.perf_counter(), 0
    with tqdm(total=answers, desc="rollout", unit=" answers", leave=False, disable=not sys.stderr.isatty()) as bar:

        def advance(group: list) -> None:
            nonlocal tokens
            tokens += sum(len(ids) for ids, _ in group)
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):.0f} tokens/s", refresh=False)
            bar.update(len(group))

        yield advance


@contextlib.contextmanager
def _draws_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, torch's global generator (vLLM samples from it) continues `generator`; afterwards it is as before."""
    where = torch.cuda if generator.device.type == "cuda" else torch
    before = where.get_rng_state()
    where.set_rng_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(where.get_rng_state())
        where.set_rng_state(before)


def _logprobs(ids: Sequence[int], flat: Any) -> Tensor:
    """Each token's log-prob, from vLLM's flat container: two lists, in place of a dict of objects for every token."""
    if list(flat.token_ids) != list(ids):  # one entry a place, that of the token itself, is what was asked for
        raise RuntimeError("vLLM reports log-probs of other tokens than it wrote")
    return torch.tensor(flat.logprobs)


@dataclass
class Canary:
    """After each push, sampler and trainer score the same fixed rows; training on another model's answers stops here.

    Two faults are told apart.  A large gap: the weights arrived wrong (permuted, half, of another model).  No change
    although the trainer's scores changed: they did not arrive at all, which a small update hides within the tolerance.
    """

    rows: list[list[int]]
    tolerance: float
    border: int = 0  # one row goes beyond it, see `probe.last_border`,
    context: int = 0  # where so many tokens fit into the sampler
    sampler: Tensor | None = None  # scores after the push before
    trainer: Tensor | None = None

    def __post_init__(self) -> None:
        ids = [token for row in self.rows for token in row]
        length = min(self.context - 1, self.border + len(ids))
        if self.border and length > max(map(len, self.rows)):  # short rows agree where a window is ignored
            self.rows = [*self.rows, list(itertools.islice(itertools.cycle(ids), length))]

    def check(self, sampler: Tensor, trainer: Tensor) -> float:
        """All rows' log-probs by both -> mean |difference|, the largest over ranks.  Raises UserError on all ranks."""
        gap = (sampler - trainer).abs().mean().item()
        stale = (
            self.sampler is not None and torch.equal(sampler, self.sampler) and not torch.equal(trainer, self.trainer)
        )
        self.sampler, self.trainer = sampler, trainer
        gaps, stales = zip(*distributed.exchange((gap, stale)), strict=True)
        if any(stales):
            raise UserError(
                "canary: the policy changed and the sampler did not, so the weight push did not arrive; no answer "
                "of that sampler was trained on: report this with config.json, and resume from the last checkpoint"
            )
        worst = max(gaps, key=lambda g: (g != g, g))  # a NaN is the worst
        if not worst <= self.tolerance:
            raise UserError(
                f"canary: sampler and trainer disagree by {worst:.2g} nats per token after the weight push, more than "
                f"{self.tolerance:.2g}: it holds other weights, or raise --canary-tolerance if its dtype is coarser"
            )
        return worst
