"""The largest, the smallest or the middle one of three numbers: a task for a small pretrained model.

    python prorl_mini.py --model DIR --task bench/three_numbers.py

It is the task of the study real-model; `bench/smollm2.py` makes a model for it.  Question and numbers both have to be
read: who always says the largest is right one time in three, as is who guesses.  The system turn is an empty one, which
spares the 15 or so tokens of the one that SmolLM2's template would put there.
"""

import random

TIERS = ["largest", "middle", "smallest"]


def problem(number):
    draw = random.Random(number)
    numbers, tier = draw.sample(range(10, 100), 3), draw.choice(TIERS)
    one = "middle one" if tier == "middle" else tier
    question = f"Which is the {one}: {numbers[0]}, {numbers[1]} or {numbers[2]}?"
    prompt = [{"role": "system", "content": ""}, {"role": "user", "content": question}]
    return {"prompt": prompt, "tier": tier, "numbers": numbers}


def score(problem, answer):
    right = sorted(problem["numbers"], reverse=True)[TIERS.index(problem["tier"])]
    return float(answer.strip() == str(right))
