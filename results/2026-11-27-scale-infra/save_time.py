"""How long does a save stop the training loop, written in the background and in the foreground?

    OMP_NUM_THREADS=1 python results/2026-11-27-scale-infra/save_time.py FOLDER

One process, a Qwen2 of 29M parameters; policy, reference and Adam's two moments are 0.46 GB.  FOLDER: on the disk to
write to.  Each mode five times in turn; the median is what counts.

Frozen with its figures: run it in a checkout of commit ccf650d, since names of the project have moved on.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
from transformers import Qwen2Config, Qwen2ForCausalLM

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from prorl_lab import laptop  # noqa: E402
from prorl_scale import policy, train  # noqa: E402
from prorl_scale.checkpoint import Folder  # noqa: E402
from prorl_scale.config import Config  # noqa: E402


def build_run(folder):
    """A sharded policy with a filled optimizer."""
    torch.manual_seed(0)
    sizes = dict(vocab_size=4096, hidden_size=512, intermediate_size=1536, num_hidden_layers=8, num_attention_heads=8)
    model = Qwen2ForCausalLM(Qwen2Config(**sizes, num_key_value_heads=8, tie_word_embeddings=True))
    model.save_pretrained(folder / "model")
    laptop.build_tokenizer().save_pretrained(folder / "model")
    config = Config(device="cpu", dtype="float32", gradient_checkpointing=False, out=str(folder / "run"))
    scorer, reference, tokenizer = policy.load(config, str(folder / "model"))
    optimizer = torch.optim.AdamW(scorer.parameters(), lr=1e-5)
    for weight in scorer.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    return train.Run(config, scorer, reference, optimizer, tokenizer, None, torch.Generator(), Folder(config))


def main(folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    run = build_run(folder)
    blocked, whole = {True: [], False: []}, {True: [], False: []}
    with run.folder:
        for run.state.step in range(10):
            run.folder.in_background = mode = run.state.step % 2 == 0
            start = time.perf_counter()
            run.folder.save(run)
            blocked[mode].append(time.perf_counter() - start)
            run.folder.finish_saving()
            whole[mode].append(time.perf_counter() - start)
    medians = {
        "background: loop stopped": statistics.median(blocked[True]),
        "background: until whole": statistics.median(whole[True]),
        "foreground: loop stopped": statistics.median(blocked[False]),
    }
    row = {
        "parameters": sum(p.numel() for p in run.policy.parameters()),
        "seconds": {name: round(value, 3) for name, value in medians.items()},
        "stopped, background / foreground": round(
            statistics.median(blocked[True]) / statistics.median(blocked[False]), 3
        ),
        "all": {"background": blocked[True], "foreground": blocked[False]},
        "load": os.getloadavg()[0],
    }
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
