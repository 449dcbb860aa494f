"""Where problems come from and how answers are checked: the laptop tiers, Reasoning Gym, or a JSON-lines file.

A problem of these is a pure function of (split, number), so the data has no state but an integer.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import reasoning_gym

from prorl_lab import laptop, rows
from prorl_lab.errors import UserError
from prorl_lab.scoring.extract import after_think, open_thought
from prorl_lab.verify import EVALUATING_TASKS, Verifier

HELD_OUT = 500_000_000  # Reasoning Gym seeds item i with seed + i: the two splits lie far apart
ANSWER_FORMAT = "\nThink step by step, then give the final answer between <answer> and </answer> tags."
BOXED_FORMAT = "\nLet's think step by step and output the final answer within \\boxed{}."


@dataclass
class Problem:
    tier: str
    prompt: str | list[dict[str, str]]  # text, or chat messages of {role, content}
    entry: dict[str, Any]  # what the verifier needs


def prompt_ids(tokenizer: Any, prompt: str | list[dict[str, str]]) -> list[int]:
    """Token ids of a prompt: a chat (text is a user's turn) where the tokenizer has a template, else plain text."""
    chat = as_chat(prompt)
    if tokenizer.chat_template is not None:
        return list(tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False))
    text = "\n".join(message["content"] for message in chat)
    ids, bare = tokenizer(text)["input_ids"], tokenizer(text, add_special_tokens=False)["input_ids"]
    # Some tokenizers close every text with EOS, and a model that is shown the end has nothing left to say.
    before = next(i for i in range(len(ids)) if ids[i : i + len(bare)] == bare)
    return ids[: before + len(bare)]


def as_chat(prompt: str | list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


MARK = "prorl-end-of-message"  # no template changes such a word


def responses(tokenizer: Any, problem: Any, answers: list[list[int]], stop_ids: list[int]) -> list[str]:
    """What is scored: the texts of a problem's answers, each after the tag of the thought that its prompt left open.

    A template that ends the prompt with `<think>` leaves no tag in an answer that is cut off amid its thought, and all
    of it would be scored.  Special tokens stay, since such tags and `<answer>` may be among them; what ends or pads a
    text goes.
    """
    silent = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, *stop_ids}
    thought = "" if tokenizer.chat_template is None else opened_thought(tokenizer, problem.prompt)
    return [thought + tokenizer.decode([i for i in ids if i not in silent]) for ids in answers]


def opened_thought(tokenizer: Any, prompt: str | list[dict[str, str]]) -> str:
    """The tag of the thought that the chat template leaves open before the answer; empty if it opens none.

    Only what the template writes behind the last message counts, not a tag that someone asks about.
    """
    *before, last = as_chat(prompt)
    marked = [*before, {**last, "content": last["content"] + MARK}]
    text = tokenizer.apply_chat_template(marked, add_generation_prompt=True, tokenize=False)
    return open_thought(text.rpartition(MARK)[2])


class Task(Protocol):
    """What a run needs of its task.  Beyond this a task may have

    - `item(problem, text) -> (domain, response, reference)`: how `prorl_scale` scores it, in a sandbox;
    - `state_dict()` and `load_state_dict(state)`: what a resumed run needs to draw the same problems, plain values;
    - `set_weights(weights)`: the share of each domain among training problems from here on.
    """

    tiers: list[str]
    stop_ids: list[int]

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        """Problem `number` of a split ("train" or "held-out"); of a drawn tier, or of the given one."""
        ...

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        """Raw rewards in [0, 1], one for each (problem, text of the answer)."""
        ...


def task_state(task: Any) -> dict[str, Any]:
    """What a checkpoint keeps of a task: nothing of one whose problems are functions of their number."""
    return task.state_dict() if hasattr(task, "state_dict") else {}


def restore_task(task: Any, state: dict[str, Any]) -> None:
    """The inverse of `task_state`."""
    if state:
        task.load_state_dict(state)


def drawn(options: list, seed: int, split: str, number: int) -> Any:
    """The option of problem `number`: uniform over options, the same at each call."""
    return random.Random(f"{seed}/{split}/{number}").choice(options)


class LaptopTask:
    """Reasoning Gym's word_sorting over 32 words, tiers by list length, scored by its own `score_answer`."""

    def __init__(self, seed: int, stop_ids: list[int]):
        self.seed, self.stop_ids = seed, stop_ids
        self.datasets = {}
        for length in sorted({*laptop.TRAIN_LENGTHS, *laptop.EVAL_LENGTHS}):
            dataset = reasoning_gym.create_dataset(
                "word_sorting", min_words=length, max_words=length, seed=seed * 1000 + length, size=2 * HELD_OUT
            )
            dataset.words = laptop.WORDS  # the generator's own 2,000 words are not learned in a minute
            self.datasets[tier_name(length)] = dataset
        self.tiers = [tier_name(length) for length in laptop.EVAL_LENGTHS]
        self.train_tiers = [tier_name(length) for length in laptop.TRAIN_LENGTHS]
        self.weights: dict[str, float] | None = None

    def set_weights(self, weights: dict[str, float]) -> None:
        """From here on, draw training problems of these domains, "ascending" and "descending", in these shares.

        Raises UserError for another name.
        """
        if set(weights) - {laptop.ASCENDING, laptop.DESCENDING} or not sum(weights.values()) > 0:
            raise UserError(f"the laptop task has the domains ascending and descending, not {weights}: mend --domains")
        self.weights = weights

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        tier = tier or drawn(self.train_tiers, self.seed, split, number)
        if split == "held-out" or self.weights is None:
            entry = self.datasets[tier][number + (HELD_OUT if split == "held-out" else 0)]
        else:
            entry = self._entry_of_domain(tier, number)
        meta = entry["metadata"]
        return Problem(tier, laptop.prompt_text(meta["transformed_words"], meta["direction"] == "ascending"), entry)

    def _entry_of_domain(self, tier: str, number: int) -> dict:
        """The generator draws the direction itself, so take the first of the problem's own 32 that has ours."""
        domains, shares = zip(*self.weights.items(), strict=True)
        (domain,) = random.Random(f"{self.seed}/domain/{number}").choices(domains, shares)
        entries = (self.datasets[tier][number * 32 + i] for i in range(32))
        return next(entry for entry in entries if entry["metadata"]["direction"] == domain)

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        # This scorer splits and compares strings; it never evaluates text, so it may run in our own process.
        return [self._score_one(problem, after_think(text).split()) for problem, text in answers]

    def _score_one(self, problem: Problem, words: list[str]) -> float:
        """Reasoning Gym's score, but 0 for an answer of another length: 0.1.25 pays 1.0 for a sorted list with any
        words after it, and a policy finds that out within a hundred steps."""
        if len(words) != problem.entry["metadata"]["num_words"]:
            return 0.0
        return self.datasets[problem.tier].score_answer(", ".join(words), problem.entry)


def tier_name(length: int) -> str:
    return f"{length} words"


class GymTask:
    """Any Reasoning Gym tasks; a tier is a task.  The answer is what the last <answer> tags hold.

    Without a verifier answers can't be scored here: whoever scores its `item`s has a sandbox, so any task will do.
    """

    def __init__(self, names: list[str], seed: int, stop_ids: list[int], verifier: Verifier | None):
        known = reasoning_gym.factory.DATASETS
        for name in names:
            if name not in known:
                close = ", ".join(n for n in sorted(known) if n[:4] == name[:4]) or "see the Reasoning Gym gallery"
                raise UserError(
                    f"unknown task {name!r}: give --task Reasoning Gym names, a .jsonl file or `laptop` ({close})"
                )
            if verifier and name in EVALUATING_TASKS:
                raise UserError(
                    f"the scorer of {name!r} evaluates the answer as code, which takes a sandbox that prorl_mini does "
                    "not have: choose another task, or torchrun -m prorl_scale.train"
                )
        self.seed, self.stop_ids, self.verifier, self.tiers = seed, stop_ids, verifier, names
        self.datasets = {name: reasoning_gym.create_dataset(name, seed=seed, size=2 * HELD_OUT) for name in names}

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        tier = tier or drawn(self.tiers, self.seed, split, number)
        entry = self.datasets[tier][number + (HELD_OUT if split == "held-out" else 0)]
        return Problem(tier, entry["question"] + ANSWER_FORMAT, entry)

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        return "puzzle", text, {"task": problem.tier, "item": problem.entry}

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        return self.verifier.score([self.item(*answer) for answer in answers])


class JsonLinesTask:
    """A file of {"question": ..., "answer": ...} lines, checked with math-verify; the last tenth is held out."""

    def __init__(self, path: Path, seed: int, stop_ids: list[int], verifier: Verifier | None):
        self.seed, self.stop_ids, self.verifier, self.tiers = seed, stop_ids, verifier, [path.stem]
        found = read_questions(path)
        random.Random(seed).shuffle(found)
        held_out = max(1, len(found) // 10)
        self.rows = {"train": found[:-held_out], "held-out": found[-held_out:]}

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        rows = self.rows[split]
        row = rows[number % len(rows)]
        return Problem(self.tiers[0], row["question"] + BOXED_FORMAT, row)

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        return "math", text, {"answer": problem.entry["answer"]}

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        return self.verifier.score([self.item(*answer) for answer in answers])


def read_questions(path: Path) -> list[dict[str, str]]:
    """Question/answer pairs of a JSON-lines file, as text.  Raises UserError that names the first line without both."""
    found = []
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as lines:
            for number, row in rows.json_lines(lines, path):
                missing = [name for name in ("question", "answer") if not isinstance(row, dict) or name not in row]
                if missing:
                    raise UserError(
                        f'{path}, line {number} is not an object with "question" and "answer" ({missing[0]!r} is '
                        "missing): mend or remove it"
                    )
                question, answer = rows.text_of(row["question"]), rows.answer_of(row["answer"])
                if question is None or answer is None:
                    what = "question" if question is None else "answer"
                    raise UserError(f"{path}, line {number} has no {what} ({row[what]!r}): mend or remove it")
                found.append({"question": question, "answer": answer})
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"can't read {path}: {error}") from error
    if len(found) < 2:
        raise UserError(f"{path} holds {len(found)} problems: at least 2 are needed, one of them to hold out")
    return found


def load_task(config: Any, stop_ids: list[int], sandboxed: bool = False) -> Task:
    """The task that --task names.  sandboxed: its `item`s are scored elsewhere, and `score` is not called."""
    if config.task == "laptop":
        return LaptopTask(config.seed, stop_ids)
    if Path(config.task).is_dir():
        raise UserError(
            f"{config.task} is a folder, and a mixture of domains is scored in a sandbox that prorl_mini does not "
            "have: torchrun -m prorl_scale.train, or give --task Reasoning Gym names or a .jsonl file"
        )
    verifier = None if sandboxed else Verifier()
    if config.task.endswith(".jsonl"):
        return JsonLinesTask(Path(config.task), config.seed, stop_ids, verifier)
    return GymTask([name.strip() for name in config.task.split(",")], config.seed, stop_ids, verifier)
