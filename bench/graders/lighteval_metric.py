"""lighteval's extractive match, as its LaTeX pass@k metric sets it up; the gold stands in a solution's box."""

import importlib
from types import SimpleNamespace

from lines import bare_package, hollow, serve

PACKAGES = (
    "lighteval", "lighteval.metrics", "lighteval.metrics.utils", "lighteval.tasks", "lighteval.tasks.templates",
    "lighteval.tasks.templates.utils", "lighteval.models", "lighteval.utils",
)  # fmt: skip
for package in PACKAGES:
    bare_package(package)
for heavy in ("lighteval.metrics.metrics_sample", "lighteval.metrics.normalizations", "lighteval.models.model_output"):
    hollow(heavy)
hollow("lighteval.metrics.utils.metric_utils")
hollow(
    "lighteval.utils.utils", as_list=lambda x: x if isinstance(x, list) else list(x) if isinstance(x, tuple) else [x]
)
metrics = importlib.import_module("lighteval.metrics.dynamic_metrics")
requests = importlib.import_module("lighteval.tasks.requests")

metric = metrics.MultilingualExtractiveMatchMetric(
    language=metrics.Language.ENGLISH,
    fallback_mode="first_match",
    precision=5,
    gold_extraction_target=(metrics.LatexExtractionConfig(),),
    pred_extraction_target=(metrics.ExprExtractionConfig(), metrics.LatexExtractionConfig(boxed_match_priority=0)),
    aggregation_function=max,
)


def grade(item: dict) -> tuple[float, str]:
    doc = requests.Doc(query="", choices=[f"The answer is $\\boxed{{{item['gold']}}}$."], gold_index=0, task_name="")
    return float(metric.compute(doc, SimpleNamespace(final_text=[item["response"]]))), ""


if __name__ == "__main__":
    serve(grade)
