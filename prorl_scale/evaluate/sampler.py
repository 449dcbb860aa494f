"""vLLM as the evaluation uses it: a chunk of prompts in, all their answers out, the same ones whatever came before."""

import functools
import gc
import hashlib
import os
import sys
from typing import Any

import torch
from tqdm import tqdm

from prorl_lab.errors import UserError
from prorl_scale.rollout import import_vllm, open_model


class Sampler:
    """One engine in this process.  A context manager: the next model needs the memory."""

    def __init__(self, folder: str, settings: Any, stop_ids: list[int], context: int):
        """Load the model in `folder`.  context: the longest prompt with its answer, in tokens.

        Raises UserError where vLLM is missing or does not take the model.
        """
        # In a process of its own the engine would draw from a generator that `write` can't set.
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
        vllm = import_vllm()
        gpu = settings.device == "cuda"
        self.llm = open_model(
            vllm, folder,
            "lower --max-tokens or --max-seqs, if memory or context is what it lacks, or give another model",
            dtype=settings.dtype,
            seed=settings.seed,
            max_model_len=context,
            max_num_seqs=settings.max_seqs,
            enforce_eager=not gpu,
            use_tqdm_on_load=False,
            **({"gpu_memory_utilization": settings.gpu_memory} if gpu else {}),
        )  # fmt: skip
        self.how = functools.partial(
            vllm.SamplingParams, temperature=settings.temperature, top_p=settings.top_p, n=settings.n,
            stop_token_ids=stop_ids, detokenize=False,
        )  # fmt: skip
        self.context, self.max_tokens, self.gpu = context, settings.max_tokens, gpu

    def write(self, prompts: list[list[int]], seed: int) -> list[list[tuple[list[int], bool]]]:
        """P prompts -> P groups of n (ids with EOS, was it cut off); the same for the same prompts and seed.

        The generator is set and the prefix cache emptied, so nothing is left of the chunks before.  On a GPU vLLM does
        not draw from torch's generator, and each prompt gets a seed; on a CPU that is several times slower.
        """
        torch.manual_seed(seed)
        if not self.llm.reset_prefix_cache():
            raise RuntimeError("vLLM did not empty its prefix cache, so answers could depend on the chunks before")
        n = self.how.keywords["n"]  # answer i of a prompt gets the prompt's seed plus i
        seeds = [seed + n * place if self.gpu else None for place in range(len(prompts))]
        limits = [
            self.how(max_tokens=min(self.max_tokens, self.context - len(prompt)), seed=own)
            for prompt, own in zip(prompts, seeds, strict=True)
        ]
        bar = functools.partial(tqdm, leave=False, position=1) if sys.stderr.isatty() else False
        done = self.llm.generate([{"prompt_token_ids": p} for p in prompts], limits, use_tqdm=bar)
        return [[(list(a.token_ids), a.finish_reason == "length") for a in request.outputs] for request in done]

    def __enter__(self) -> "Sampler":
        return self

    def __exit__(self, *exception: object) -> None:
        from vllm.distributed import cleanup_dist_env_and_memory

        self.llm.llm_engine.engine_core.shutdown()
        del self.llm
        gc.collect()
        cleanup_dist_env_and_memory()


def chunk_seed(seed: int, model: str, of: str, chunk: int) -> int:
    """The seed of one chunk of prompts: a function of its place alone."""
    digest = hashlib.sha256(f"{seed}/{model}/{of}/{chunk}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def take_gpu() -> None:
    """Show this process only the GPU that torchrun's LOCAL_RANK names; before anything asks for CUDA."""
    if "LOCAL_RANK" in os.environ:
        local = int(os.environ["LOCAL_RANK"])
        visible = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
        if visible and local >= len(visible):
            raise UserError(f"more processes than the {len(visible)} visible GPUs: lower torchrun's --nproc-per-node")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[local] if visible else str(local)
