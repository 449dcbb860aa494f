"""TRL's accuracy_reward.  The solution is in dollars, as in the data sets of its examples."""

import importlib

from lines import bare_package, serve

bare_package("trl")
bare_package("trl.rewards")
accuracy_reward = importlib.import_module("trl.rewards.accuracy_rewards").accuracy_reward


def grade(item: dict) -> tuple[float | None, str]:
    score = accuracy_reward([[{"content": item["response"]}]], [f"${item['gold']}$"])[0]
    return score, "" if score is not None else "reference not parsed"


if __name__ == "__main__":
    serve(grade)
