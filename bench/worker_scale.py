"""prorl_scale's side of step_vs_trl.py: one process, as torchrun would start it, with vLLM for the rollouts."""

import json
import os
import sys
from pathlib import Path

from worker_mini import run

from prorl_scale import distributed, train
from prorl_scale.config import Config


def main() -> int:
    alone = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "localhost"}
    os.environ.update({name: str(value) for name, value in alone.items()}, MASTER_PORT="29531")
    prompt_tokens = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["prompt_tokens"]
    run(train.train, Config, ["vllm-cpu"], max_prompt_tokens=prompt_tokens)
    return 0


if __name__ == "__main__":
    distributed.leave(main)
