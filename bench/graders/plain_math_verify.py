"""math-verify with its defaults: the reference in dollars, the whole response as it is."""

from lines import serve
from math_verify import parse, verify


def grade(item: dict) -> tuple[float, str]:
    gold = parse(f"${item['gold']}$")
    return float(verify(gold, parse(item["response"]))), "" if gold else "reference not parsed"


if __name__ == "__main__":
    serve(grade)
