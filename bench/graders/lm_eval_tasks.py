"""lm-eval's MATH tasks: `hendrycks_math` compares normalised text, `minerva_math` what sympy reads (exact_match)."""

import sys

from lines import bare_package, hollow, in_form, load, serve

hollow("datasets")
task = load("task", bare_package("lm_eval") / "tasks" / sys.argv[1] / "utils.py")


def grade(item: dict) -> tuple[float, str]:
    solution = f"The answer is $\\boxed{{{item['gold']}}}$."
    if sys.argv[1] == "hendrycks_math":
        return float(task.process_results({"solution": solution}, [in_form(item, "${}$")])["exact_match"]), ""
    gold = task.normalize_final_answer(task.remove_boxed(task.last_boxed_only_string(solution)))
    text = in_form(item, "Final Answer: The final answer is ${}$. I hope it is correct.")
    answer = task.normalize_final_answer(task.get_unnormalized_answer(text))
    return float(task.is_equiv(answer, gold)), ""


if __name__ == "__main__":
    serve(grade)
