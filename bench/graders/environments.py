"""The environments of other projects' graders: a venv each, pinned, under one folder.

    python bench/graders/environments.py FOLDER [NAME ...]

Packages are installed without their dependencies: a grading function needs a few small ones of them, listed here, and
none of torch, transformers or ray.  The grader's script loads its module past its package's own `__init__`.
"""

import subprocess
import sys
from pathlib import Path

SYMPY = ["sympy==1.14.0", "mpmath==1.3.0"]
MATH_VERIFY = ["math-verify==0.9.0", "latex2sympy2_extended==1.11.0", "antlr4-python3-runtime==4.13.2", *SYMPY]
# lm-eval pins antlr 4.11; the MATH tasks of lighteval pin an older latex2sympy2_extended.
PACKAGES = {
    "math-verify": MATH_VERIFY,
    "trl": ["trl==1.16.0", "packaging==25.0", *MATH_VERIFY],
    "verl": ["verl==0.9.1", "pylatexenc==2.10", "antlr4-python3-runtime==4.11.1", *SYMPY],
    "lm-eval": [
        "lm_eval==0.4.13", "math-verify==0.9.0", "latex2sympy2_extended==1.11.0", "antlr4-python3-runtime==4.11.0",
        *SYMPY,
    ],
    "lighteval": [
        "lighteval==0.13.0", "latex2sympy2_extended==1.0.6", "antlr4-python3-runtime==4.13.2", "numpy==2.3.5",
        "packaging==25.0", *SYMPY,
    ],
}  # fmt: skip
# grader -> the script that calls it, the argument it takes, the environment it runs in
GRADERS = {
    "math-verify": ("plain_math_verify.py", "", "math-verify"),
    "trl": ("trl_accuracy.py", "", "trl"),
    "verl-dapo": ("verl_scores.py", "math_dapo", "verl"),
    "verl-prime": ("verl_scores.py", "prime_math", "verl"),
    "lm-eval-hendrycks": ("lm_eval_tasks.py", "hendrycks_math", "lm-eval"),
    "lm-eval-minerva": ("lm_eval_tasks.py", "minerva_math", "lm-eval"),
    "lighteval": ("lighteval_metric.py", "", "lighteval"),
}

# These ask for the answer in a form without a box: pairs whose point is in the boxes are not put to them.
NO_BOX = {"verl-dapo", "lm-eval-hendrycks", "lm-eval-minerva"}


def interpreter(folder: Path, name: str) -> Path:
    """The Python of an environment, which is made if it is not there."""
    python = folder / name / "bin" / "python"
    pinned = folder / name / "pinned.txt"
    packages = "\n".join(PACKAGES[name]) + "\n"
    if not pinned.exists() or pinned.read_text() != packages:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder / name)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "--no-deps", *PACKAGES[name]], check=True)
        pinned.write_text(packages)
    return python


def command(name: str, folder: Path) -> list[str]:
    """How a grader is started."""
    script, argument, environment = GRADERS[name]
    python = interpreter(folder, environment)
    return [str(python), str(Path(__file__).parent / script), *([argument] if argument else [])]


if __name__ == "__main__":
    for name in sys.argv[2:] or PACKAGES:
        print(interpreter(Path(sys.argv[1]).resolve(), name))
