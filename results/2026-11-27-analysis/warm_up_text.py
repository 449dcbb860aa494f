"""The text that supervised training showed the laptop's base model, for the creativity index.

    python results/2026-11-27-analysis/warm_up_text.py OUT.jsonl

Draws the warm-up's own batches again, prompt and answer of each list one document: {"text": "ascending b a = a b"}.

Frozen with its figures: run it in a checkout of commit ea6fc8e, since names of the project have moved on.
"""

import json
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from prorl_lab import laptop

settings = laptop.WarmUp()
tokenizer = laptop.build_tokenizer()
draw = random.Random(settings.seed)
with open(sys.argv[1], "w", encoding="utf-8") as file:
    for _ in range(settings.steps):
        ids, _ = laptop._warm_up_batch(tokenizer, draw, settings.batch)
        for text in tokenizer.batch_decode(ids, skip_special_tokens=True):
            file.write(json.dumps({"text": text.strip()}) + "\n")
