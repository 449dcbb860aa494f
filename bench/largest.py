"""The largest of three numbers: a task for a small pretrained model, that of the study real-model.

    python prorl_mini.py --model DIR --task bench/largest.py

`bench/smollm2.py` makes a model for it.  The system turn is an empty one, which spares the 15 or so tokens of the one
that SmolLM2's template would put there.
"""

import random


def problem(number):
    numbers = random.Random(number).sample(range(10, 100), 3)
    question = f"Which is the largest: {numbers[0]}, {numbers[1]} or {numbers[2]}?"
    prompt = [{"role": "system", "content": ""}, {"role": "user", "content": question}]
    return {"prompt": prompt, "numbers": numbers}


def score(problem, answer):
    return float(answer.strip() == str(max(problem["numbers"])))
