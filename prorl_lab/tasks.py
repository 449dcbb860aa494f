"""Where problems come from and how answers are checked: the laptop tiers, Reasoning Gym, or a JSON-lines file.

A problem of these is a pure function of (split, number), so the data has no state but an integer.  There are three
splits: "train"; "validation", on which resets may select; and "held-out", which the boundary is measured on and nothing
is selected on.  No question is in two of them.
"""

import contextlib
import random
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prorl_lab import laptop, questions, settings
from prorl_lab.errors import UserError, first_line
from prorl_lab.inputs import file_of_python
from prorl_lab.later import Later
from prorl_lab.puzzles import RENAMED, Puzzles
from prorl_lab.scoring.extract import after_think, open_thought
from prorl_lab.split import Epochs
from prorl_lab.verify import EVALUATING_TASKS, Verifier

PURPOSES = {"validation": "validation", "held-out": "the boundary"}
TURNED_OFF = {"validation": "--eval-every 0", "held-out": "--boundary-prompts 0"}
ANSWER_FORMAT = "\nThink step by step, then give the final answer between <answer> and </answer> tags."


@dataclass
class Problem:
    tier: str
    prompt: str | list[dict[str, str]]  # text, or chat messages of {role, content}
    entry: dict[str, Any]  # what the verifier needs


def prompt_ids(tokenizer: Any, prompt: str | list[dict[str, str]]) -> list[int]:
    """Token ids of a prompt: a chat (text is a user's turn) where the tokenizer has a template, else plain text.

    Raises UserError where the template or the tokenizer can't make one.
    """
    chat = as_chat(prompt)
    if tokenizer.chat_template is not None:
        return tokenizer(before_answer(tokenizer, chat), add_special_tokens=False)["input_ids"]
    text = "\n".join(message["content"] for message in chat)
    ids, bare = tokenizer(text)["input_ids"], tokenizer(text, add_special_tokens=False)["input_ids"]
    # Some tokenizers close every text with EOS, and a model that is shown the end has nothing left to say.
    before = next((i for i in range(len(ids) + 1) if ids[i : i + len(bare)] == bare), None)
    if before is None:
        raise UserError("the model's tokenizer splits a text in another way beside its special tokens: give another")
    return ids[: before + len(bare)]


def before_answer(tokenizer: Any, chat: list[dict[str, str]]) -> str:
    """What the chat template makes of the messages, up to where the assistant is to speak.

    Raises UserError where it refuses them, or leaves one out without a word, as templates do that expect lists of parts
    or know no system message.
    """
    try:
        text = tokenizer.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    except Exception as error:  # a template is a program that came with the model
        roles = ", ".join(message["role"] for message in chat)
        raise UserError(
            f"the model's chat template makes no prompt of messages by {roles} ({first_line(error)}): mend it, or give "
            "data and a model that fit each other"
        ) from error
    for message in chat:
        words = re.findall(r"\w+", message["content"])
        if words and max(words, key=len) not in text:
            raise UserError(
                f"the model's chat template leaves out what the {message['role']} says: mend it, or give data and a "
                "model that fit each other"
            )
    return text


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
    return open_thought(before_answer(tokenizer, marked).rpartition(MARK)[2])


class Task(Protocol):
    """What a run needs of its task.  Beyond this a task may have

    - `item(problem, text) -> (domain, response, reference)`: how `prorl_scale` scores it, in a sandbox;
    - `state_dict()` and `load_state_dict(state)`: what a resumed run needs to draw the same problems, plain values;
    - `set_weights(weights)`: the share of each domain among training problems from here on;
    - `check_rows(check)`: have all its problems checked before a run, where they are finitely many;
    - `split_lines()`: the text of a file that says which of its rows are held out;
    - `tally`, and `note(problem, status, why)`: what else it counts of training answers (`figures`).
    """

    tiers: list[str]
    stop_ids: list[int]

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        """Problem `number` of a split; of a drawn tier, or of the given one.

        No question is in two splits, nor twice in "validation" or "held-out", where IndexError is raised past the last.
        """
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


def available(task: Task, split: str, tier: str, count: int) -> list[Problem]:
    """Up to `count` different problems of a tier, fewer or none where it has no more: none is counted twice.

    split: "validation" or "held-out".
    """
    found: list[Problem] = []
    with contextlib.suppress(IndexError):
        for number in range(count):
            found.append(task.problem(split, number, tier))
    return found


def held_out(task: Task, split: str, tier: str, count: int) -> list[Problem]:
    """`available`.  Raises UserError where there is none."""
    found = available(task, split, tier, count)
    if not found:
        raise UserError(
            f"{tier!r} has too few different questions to hold one out for {PURPOSES[split]}: give more, leave it out, "
            f"or give {TURNED_OFF[split]}"
        )
    return found


def say_what_is_held_out(config: Any, task: Task) -> None:
    """Say for each tier, before anything is trained, where fewer problems are held out than the settings ask for.

    Raises UserError where there is none at all.
    """
    validated = list(config.eval_sets or task.tiers) if config.eval_every else []
    wanted = [("validation", config.eval_prompts, tier) for tier in validated]
    wanted += [("held-out", config.boundary_prompts, tier) for tier in task.tiers if config.boundary_prompts]
    for split, count, tier in wanted:
        if tier in task.tiers and (have := len(held_out(task, split, tier, count))) < count:
            print(f"{tier}: {have} different problems for {PURPOSES[split]}, not {count}: it has no more", flush=True)


def join(config: Any, task: Task, tokenizer: Any, model_config: Any) -> None:
    """Bring a task and a model together: what ends an answer, and whether every row of a file can be asked.

    Raises UserError.
    """
    from prorl_lab import models  # which nothing else here needs

    task.stop_ids = models.stop_ids(model_config, tokenizer)
    settings.check_eval_sets(config, task.tiers)

    def ask(problem: Problem) -> None:
        ids = prompt_ids(tokenizer, problem.prompt)
        if config.model == "laptop" and tokenizer.unk_token_id in ids:
            raise UserError(
                f"the laptop model knows 38 words and can't read {problem.prompt!r:.60}: ask in those (WORDS in "
                "prorl_lab/laptop.py), or give --model a Hugging Face model"
            )
        settings.that_fits(ids, model_config, config)

    if hasattr(task, "check_rows"):
        task.check_rows(ask)
    else:
        ask(task.problem("held-out", 0, task.tiers[0]))


def tally(task: Any) -> Counter:
    """What a task has counted of training answers since it was last asked."""
    counts = Counter(getattr(task, "tally", ()))
    if counts:
        task.tally.clear()
    return counts


def figures(tallies: list[Counter]) -> dict[str, dict[str, float]]:
    """The figures of a step out of what each process counted: verdicts by status, and the mean of each partial reward.

    >>> figures([Counter({"status ok": 1, "part form": 1.0}), Counter({"status wrong": 1, "part form": 0.0})])
    {'verdicts': {'ok': 1, 'wrong': 1}, 'rewards': {'form': 0.5}}
    """
    total: Counter = sum(tallies, Counter())
    for counts in tallies:
        total.update(dict.fromkeys(set(counts) - set(total), 0))  # a sum of counters drops what is 0
    verdicts = {key.removeprefix("status "): n for key, n in sorted(total.items()) if key.startswith("status ")}
    judged = max(1, verdicts.get("ok", 0) + verdicts.get("wrong", 0))
    parts = {key.removeprefix("part "): v / judged for key, v in sorted(total.items()) if key.startswith("part ")}
    return {name: value for name, value in {"verdicts": verdicts, "rewards": parts}.items() if value}


def drawn(options: list, seed: int, split: str, number: int) -> Any:
    """The option of problem `number`: uniform over options, the same at each call."""
    return random.Random(f"{seed}/{split}/{number}").choice(options)


class LaptopTask:
    """Reasoning Gym's word_sorting over 32 words, tiers by list length, scored by its own `score_answer`."""

    def __init__(self, seed: int, stop_ids: list[int]):
        self.seed, self.stop_ids = seed, stop_ids
        self.puzzles: dict[str, Puzzles] = {}
        for length in sorted({*laptop.TRAIN_LENGTHS, *laptop.EVAL_LENGTHS}):
            made = Puzzles("word_sorting", (seed, length), laptop_prompt, min_words=length, max_words=length)
            made.dataset.words = laptop.WORDS  # the generator's own 2,000 words are not learned in a minute
            self.puzzles[tier_name(length)] = made
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
        puzzles = self.puzzles[tier]
        if split != "train":
            entry = puzzles.held_out(split, number)
        elif self.weights is None:
            entry = puzzles.train(number)
        else:  # the generator draws the direction itself, so take the first of the problem's own draws that has ours
            domains, shares = zip(*self.weights.items(), strict=True)
            (domain,) = random.Random(f"{self.seed}/domain/{number}").choices(domains, shares)
            entry = puzzles.train(number, lambda entry: entry["metadata"]["direction"] == domain)
        return Problem(tier, laptop_prompt(entry), entry)

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        # This scorer splits and compares strings; it never evaluates text, so it may run in our own process.
        return [self._score_one(problem, after_think(text).split()) for problem, text in answers]

    def _score_one(self, problem: Problem, words: list[str]) -> float:
        """Reasoning Gym's score, but 0 for an answer of another length: 0.1.25 pays 1.0 for a sorted list with any
        words after it, and a policy finds that out within a hundred steps."""
        if len(words) != problem.entry["metadata"]["num_words"]:
            return 0.0
        return self.puzzles[problem.tier].dataset.score_answer(", ".join(words), problem.entry)


def laptop_prompt(entry: dict[str, Any]) -> str:
    meta = entry["metadata"]
    return laptop.prompt_text(meta["transformed_words"], meta["direction"] == "ascending")


def tier_name(length: int) -> str:
    return f"{length} words"


class GymTask:
    """Any Reasoning Gym tasks; a tier is a task.  The answer is what the last <answer> tags hold.

    Without a verifier answers can't be scored here: whoever scores its `item`s has a sandbox, so any task will do.
    """

    def __init__(self, names: list[str], seed: int, stop_ids: list[int], verifier: Verifier | None):
        known = Later("reasoning_gym.factory").DATASETS
        for name in names:
            if RENAMED.get(name, name) not in known:
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
        self.puzzles = {name: Puzzles(name, seed) for name in names}

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        tier = tier or drawn(self.tiers, self.seed, split, number)
        puzzles = self.puzzles[tier]
        entry = puzzles.train(number) if split == "train" else puzzles.held_out(split, number)
        return Problem(tier, entry["question"] + ANSWER_FORMAT, entry)

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        return "puzzle", text, {"task": RENAMED.get(problem.tier, problem.tier), "item": problem.entry}

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        return self.verifier.score([self.item(*answer) for answer in answers])


class JsonLinesTask:
    """A file of {"question": ..., "answer": ...} lines, checked as mathematics (`scoring.math_answers`).

    keep: reasons of `judge` for which a row is taken all the same.
    An eighth is held out and an eighth is for validation, by the text of the question alone (`prorl_lab.questions`); of
    one or two questions nothing is.
    """

    def __init__(
        self, path: Path, seed: int, stop_ids: list[int], verifier: Verifier | None, skip_bad_rows: bool = False,
        keep: Collection[str] = (),
    ):  # fmt: skip
        self.stop_ids, self.verifier, self.tiers = stop_ids, verifier, [path.stem]
        self.bad = questions.BadRows(path, skip_bad_rows)
        self.rows = questions.by_split(questions.fit(questions.read(path, self.bad), self.bad, keep))
        self.bad.say()
        self.seed = seed
        self._begin()

    def _begin(self) -> None:
        if not self.rows["train"]:
            raise UserError(f"{self.bad.path} has no rows to train on: all are held out; give more, or another file")
        self.epochs = Epochs(self.seed, len(self.rows["train"]))

    def check_rows(self, check: Callable[[Problem], None]) -> None:
        """Have every row checked as a prompt.  Raises the UserError of the first, its line named, or skips such."""
        for split, some in self.rows.items():
            self.rows[split] = [row for row in some if self._passes(row, check)]
        self.bad.say()
        self._begin()

    def _passes(self, row: questions.Row, check: Callable[[Problem], None]) -> bool:
        try:
            check(self._problem(row))
        except UserError as error:
            self.bad.add(row["line"], f"can't be asked, since {error}", "that can't be asked")
            return False
        return True

    def problem(self, split: str, number: int, tier: str | None = None) -> Problem:
        """Every row of "train" comes once an epoch, each time in another order and so in other company."""
        return self._problem(self.rows[split][self.epochs.place(number) if split == "train" else number])

    def _problem(self, row: questions.Row) -> Problem:
        return Problem(self.tiers[0], questions.prompt_of(row), row)

    def item(self, problem: Problem, text: str) -> tuple[str, str, dict]:
        return "math", text, {"answer": problem.entry["answer"]}

    def score(self, answers: list[tuple[Problem, str]]) -> list[float]:
        return self.verifier.score([self.item(*answer) for answer in answers])

    def split_lines(self) -> str:
        """Which row is for what, as a file that `prorl_scale.evaluate` takes."""
        return questions.as_lines(self.rows)


def load_task(config: Any, stop_ids: list[int], sandboxed: bool = False) -> Task:
    """The task that --task names.  sandboxed: its `item`s are scored elsewhere, and `score` is not called.

    Says where a tier has fewer problems to hold out than asked for.  Raises UserError for a task that can't be had.
    """
    task = _named_task(config, stop_ids, sandboxed)
    say_what_is_held_out(config, task)
    return task


def _named_task(config: Any, stop_ids: list[int], sandboxed: bool) -> Task:
    from prorl_lab import own  # which needs this module

    if config.task == "laptop":
        return LaptopTask(config.seed, stop_ids)
    if Path(config.task).is_dir():
        raise UserError(
            f"{config.task} is a folder, and a mixture of domains is scored in a sandbox that prorl_mini does not "
            "have: torchrun -m prorl_scale.train, or give --task Reasoning Gym names or a .jsonl file"
        )
    verifier = None if sandboxed else Verifier()
    if config.task.endswith(".jsonl"):
        return JsonLinesTask(Path(config.task), config.seed, stop_ids, verifier, config.skip_bad_rows, config.keep)
    if named := file_of_python(config.task):
        task = own.OwnTask(*named, config.seed, stop_ids, verifier)
        task.prove(config.binary_reward)
        return task
    return GymTask([name.strip() for name in config.task.split(",")], config.seed, stop_ids, verifier)
