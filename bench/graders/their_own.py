"""The packages' own verdicts, without what we put before them: of Reasoning Gym on puzzles, of if-verifiable."""

import importlib
import sys

import reasoning_gym
from lines import bare_package, serve
from reasoning_gym.utils import extract_answer


def puzzle(item: dict) -> tuple[float, str]:
    reference = item["reference"]
    answer = extract_answer(item["response"])
    return float(reasoning_gym.get_score_answer_fn(reference["task"])(answer, reference["item"])), ""


def instruction(item: dict) -> tuple[float, str]:
    name, arguments = item["reference"]["instruction_id_list"][0], item["reference"]["kwargs"][0]
    checker = registry()[name](name)
    checker.build_description(**arguments)
    return float(checker.check_following(item["response"])), ""


def registry() -> dict[str, type]:
    if "if_verifiable" not in sys.modules:
        bare_package("if_verifiable")
    return importlib.import_module("if_verifiable.ifeval.instructions_registry").INSTRUCTION_DICT


def grade(item: dict) -> tuple[float | None, str]:
    grader = {"puzzle": puzzle, "instruction": instruction}.get(item["domain"])
    return grader(item) if grader else (None, "not its domain or form")


if __name__ == "__main__":
    serve(grade)
