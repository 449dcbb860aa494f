"""Named settings: a recipe is a list of stages, and a stage says only what it changes.

    python -m prorl_scale.recipes list
    python -m prorl_scale.recipes show prorl-1.5b

A stage inherits everything from the one before it.  It ends at a step, at a reset, or with the run.  Keys are fields of
`prorl_scale.config.Config`.  Where a paper does not state a value, `choices` says that it is ours, and why.

P1 is ProRL (arXiv 2505.24864), TR its technical report (arXiv 2507.12507), N2 the ProRLv2 post of August 2025, BR BroRL
(arXiv 2510.01180), JR JustRL (arXiv 2512.16649) with its published script.
"""

import math
import sys
from dataclasses import dataclass, field
from typing import Any

from prorl_lab import flags
from prorl_lab.errors import UserError


@dataclass(frozen=True)
class Stage:
    """One run of the paper.  Its last step is `end`, counted over the whole recipe; None: the last of the recipe."""

    name: str
    end: int | None = None
    ends_at_reset: bool = False  # also when the reference is reset, whatever the step
    changes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Settings of the whole run, what its stages change, and which values are no paper's."""

    about: str
    settings: dict[str, Any]
    stages: list[Stage] = field(default_factory=lambda: [Stage("all")])
    choices: dict[str, str] = field(default_factory=dict)

    def settings_at(self, stage: int) -> dict[str, Any]:
        """What stages 0 to `stage` change, put together."""
        return {key: value for earlier in self.stages[: stage + 1] for key, value in earlier.changes.items()}

    def next_stage(self, stage: int, step: int, was_reset: bool) -> int:
        """The stage after `step`: the one given, or the next where that one has ended."""
        now = self.stages[stage]
        ended = (now.end is not None and step >= now.end) or (now.ends_at_reset and was_reset)
        return min(stage + ended, len(self.stages) - 1)


# ---------------------------------------------------------------- a laptop


LAPTOP_BLEND = {"6 words": 1.0, "8 words": 1.0, "10 words": 1.0, "12 words": 1.0}
LAPTOP = Recipe(
    about="The tiny model of `make mini` on two CPU processes with vLLM: every mechanism of prorl-1.5b in miniature.",
    settings={
        "model": "laptop",
        "gpus": 2,
        "steps": 60,
        "rollout_batch": 256,
        "microbatch_tokens": 8192,
        "max_prompt_tokens": 24,
        "eval_sets": LAPTOP_BLEND,
        "eval_every": 5,
        "eval_answers": 8,
        "reset_every": 0,
        "reset_steps": [12, 24],
        "reset_on_stall": 3,
        "reset_on_drop": 0.1,
        "reset_kl_above": 0.2,
        "reset_min_spacing": 8,
        "boundary_prompts": 24,
        "boundary_answers": 16,
        "health_entropy_min": 0.02,
        "health_truncated_max": 0.9,
    },
    stages=[
        Stage("ascending lists", 12, changes={"domains": {"ascending": 1.0}, "max_new_tokens": 14}),
        Stage("descending lists too", 24, changes={"domains": {"ascending": 1.0, "descending": 1.0}}),
        Stage("cut answers earn nothing", 34, changes={"zero_truncated": True}),
        Stage("32 answers", 44, ends_at_reset=True, changes={"answers_per_prompt": 32, "prompts_per_step": 16}),
        Stage(
            "longer context",
            changes={
                **{"answers_per_prompt": 16, "prompts_per_step": 32, "max_new_tokens": 22},
                "eval_sets": {**LAPTOP_BLEND, "14 words": 1.0},
            },
        ),
    ],
    choices={"all": "found by trial; no paper trains this model"},
)

# ---------------------------------------------------------------- ProRL, 1.5B

R1_DISTILL = "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
FOUR_DOMAINS = {"math": 40.0, "code": 24.0, "stem": 25.0, "puzzle": 37.0}  # thousands of rows (P1, table 4)
FIVE_DOMAINS = {**FOUR_DOMAINS, "instruction": 10.0}
BLEND = {"math": 1.0, "code": 1.0, "stem": 1.0, "instruction": 1.0, "puzzle": 1.0}
PUBLISHED_RESETS = [564, 904, 1042, 1477, 1687, 1943, 2250]

PAPER = {
    "model": R1_DISTILL,
    "gpus": 32,
    "task": "data/prorl-1.5b",
    "domains": FOUR_DOMAINS,
    "steps": 2411,
    "prompts_per_step": 256,
    "answers_per_prompt": 16,
    "updates_per_step": 4,
    "learning_rate": 2e-6,
    "temperature": 1.2,
    "eps_low": 0.2,
    "eps_high": 0.4,
    "kl_kind": "k3",
    "kl_coef": 1e-4,
    "loss_level": "token",
    "advantage": "group",
    "binary_reward": False,
    "max_new_tokens": 8192,
    "max_prompt_tokens": 2048,
    "dynamic_sampling": True,
    "max_rounds": 10,
    "weight_decay": 0.01,
    "grad_clip": 1.0,
    "eval_every": 10,
    "eval_sets": BLEND,
    "eval_prompts": 64,
    "eval_answers": 16,
    "eval_temperature": 0.6,
    "eval_top_p": 0.95,
    "reset_every": 0,
    "reset_steps": PUBLISHED_RESETS,
    "reset_min_spacing": 100,
    "reset_keeps_optimizer": False,
    "boundary_prompts": 0,
    "save_every": 10,
    "microbatch_tokens": 32768,
    "rollout_batch": 512,
    "gradient_checkpointing": True,
    "health_entropy_min": 0.1,
    "health_truncated_max": 0.5,
    "health_repetition_max": 0.2,
    "health_length_growth": 1.5,
    "health_kl_max": 1.0,
    "health_reward_jump": 0.15,
}
PAPER_CHOICES = {
    "kl_kind": "k3: P1 names no estimator; TR writes a k3 form, the code base of the time had one",
    "kl_coef": "1e-4 is TR's; P1 gives none",
    "loss_level": "token: P1 does not say; the code base's default then",
    "domains": "drawn in proportion to the rows; P1 does not say how domains are mixed",
    "max_new_tokens": "P1 prints 8096 and says 8k; whether the prompt counts is not stated",
    "max_prompt_tokens": "not stated",
    "prompts_per_step": "256 prompts, also where n = 32; P1 does not say whether the batch then shrinks",
    "max_rounds": "not stated; the code base's recipe for dynamic sampling had 10",
    "weight_decay": "not stated; the code base's default",
    "grad_clip": "not stated; the code base's default",
    "eval_sets": "P1 blends parts of AIME24, Codeforces, GPQA, IFEval and graph_color; here held-out rows",
    "eval_prompts": "not stated",
    "eval_top_p": "0.95 is what P1 evaluates with; that validation on the way did too is not said",
    "eval_every": "the first points of Fig. 1 are 10 steps apart",
    "reset_steps": "read off the dashed lines of Fig. 2 (within a step); the text has no numbers",
    "reset_min_spacing": "not stated; the shortest published spacing is 138",
    "zero_truncated": "from run 4 on P1 penalises answers that do not end, by how much is not stated; v2 uses x 0",
    "health_*": "ours",
}


def published_runs(ends: list[int | None], ends_at_reset: bool = False) -> list[Stage]:
    """The eight runs of P1, appendix E, ending at these steps."""
    changes = [
        {},
        {},  # the same after a reset; deliberately kept at 8k
        {"domains": FIVE_DOMAINS},
        {"zero_truncated": True},
        {},
        {"answers_per_prompt": 32},
        {},
        {"answers_per_prompt": 16, "max_new_tokens": 16384},
    ]
    return [
        Stage(f"run {i}", end, ends_at_reset and i < len(changes), change)
        for i, (end, change) in enumerate(zip(ends, changes, strict=True), 1)
    ]


PRORL = Recipe(
    about="ProRL as published: DeepSeek-R1-Distill-Qwen-1.5B on 4 x 8 H100, eight runs, resets at the published steps.",
    settings=PAPER,
    stages=published_runs([*PUBLISHED_RESETS, None]),
    choices=PAPER_CHOICES,
)

AUTO = Recipe(
    about="The same eight runs with resets decided by the controller; a run ends where it resets the reference.",
    settings={
        **PAPER,
        "reset_steps": [],
        "reset_on_stall": 10,
        "reset_margin": 0.002,
        "reset_on_drop": 0.03,
        "reset_kl_above": 0.1,
        "steps": 3000,
    },
    stages=published_runs([None] * 8, ends_at_reset=True),
    choices={
        **{key: why for key, why in PAPER_CHOICES.items() if key != "reset_steps"},
        "reset_on_stall": "ours: 100 steps without a new best; P1 says when validation stagnates, without a number",
        "reset_margin": "ours",
        "reset_on_drop": "ours: P1 says when validation degrades, without a number",
        "reset_kl_above": "ours: the peak of the published run 1 is 0.114, that of the others below 0.06",
        "steps": "ours",
    },
)

V2 = Recipe(
    about="ProRLv2: REINFORCE++-baseline advantage, clip 0.2/0.28, k2, ICE-POP, cosine length bonus in cycles.",
    settings={
        **PAPER,
        "prompts_per_step": 512,
        "updates_per_step": 8,
        "domains": FIVE_DOMAINS,
        "steps": 3000,
        "eps_high": 0.28,
        "kl_kind": "k2",
        "advantage": "batch",
        "mismatch": "icepop",
        "mismatch_low": 0.5,
        "mismatch_high": 5.0,
        "zero_truncated": True,
        "length_bonus": 0.1,
        "length_bonus_on": 100,
        "length_bonus_off": 500,
        "reset_steps": [],
        "reset_every": 500,
        "reset_on_stall": 10,
        "reset_kl_above": 0.1,
        "reset_min_spacing": 200,
        "reset_keeps_optimizer": True,
        "reset_to": "policy",
    },
    choices={
        **{key: why for key, why in PAPER_CHOICES.items() if key not in ("kl_kind", "reset_steps", "zero_truncated")},
        "eps_high": "0.28 in N2; 0.27 in three code bases that carry the recipe (OpenRLHF, NeMo RL, molt)",
        "steps": "3000 in total; whether the first 2000 are v1's is not said: here they are not",
        "length_bonus": "its weight and both ends of the cosine are not stated",
        "reset_every": "every 200 to 500 steps, or on a KL spike or stalled validation",
        "reset_kl_above": "ours",
        "reset_to": "the policy in N2; the model card says the best checkpoint",
        "learning_rate": "v1's; N2 states none, OpenRLHF's script has 1e-6",
        "prompts_per_step": "512 x 16 is the ProRL side of BR's comparison and of OpenRLHF's script; N2 states none",
        "updates_per_step": "8 keeps v1's mini-batches of 1,024 answers, as OpenRLHF's script does; N2 states none",
    },
)

BRO_BATCH = 128 * 512
BATCH_RATIO = BRO_BATCH / (V2.settings["prompts_per_step"] * V2.settings["answers_per_prompt"])
BRO = Recipe(
    about="BroRL: 512 answers to each of 128 prompts on 64 H100, learning rate scaled by the root of the batch ratio.",
    settings={
        **V2.settings,
        "gpus": 64,
        "prompts_per_step": 128,
        "answers_per_prompt": 512,
        "max_new_tokens": 16384,
        "learning_rate": V2.settings["learning_rate"] * math.sqrt(BATCH_RATIO),
        "mismatch": "tis",
        "steps": 200,
        "length_bonus": 0.0,
    },
    choices={
        **{key: why for key, why in V2.choices.items() if key != "prompts_per_step"},
        "updates_per_step": "v2's: BR says that their number does not change, and names none",
        "model": "BR continues from the published ProRLv2 weights: give --model with them",
        "learning_rate": "BR scales by sqrt(65536 / 8192) = 2.83 and does not say what: here v2's, of a batch of 8,192",
        "mismatch_high": "BR names truncated importance sampling and no bound",
        "length_bonus": "BR mentions none",
        "steps": "BR reports up to 191",
    },
)

JUST = Recipe(
    about="JustRL, the control: one stage of plain GRPO at 16k, without KL, resets or dynamic sampling, on 4 x 8 GPUs.",
    settings={
        "model": R1_DISTILL,
        "gpus": 32,
        "task": "data/dapo-math-17k.jsonl",
        "steps": 4380,
        "prompts_per_step": 256,
        "answers_per_prompt": 8,
        "updates_per_step": 4,
        "learning_rate": 1e-6,
        "learning_rate_warm_up": 10,
        "weight_decay": 0.1,
        "grad_clip": 1.0,
        "temperature": 1.0,
        "eps_low": 0.2,
        "eps_high": 0.28,
        "kl_coef": 0.0,
        "loss_level": "token",
        "advantage": "group",
        "binary_reward": True,
        "zero_truncated": True,
        "dynamic_sampling": False,
        "max_prompt_tokens": 1024,
        "max_new_tokens": 15360,
        "reset": False,
        "reset_every": 0,
        "eval_every": 50,
        "eval_prompts": 64,
        "eval_answers": 32,
        "eval_temperature": 0.7,
        "eval_top_p": 0.9,
        "boundary_prompts": 0,
        "save_every": 50,
        **{key: PAPER[key] for key in ("microbatch_tokens", "rollout_batch", "gradient_checkpointing")},
        **{key: value for key, value in PAPER.items() if key.startswith("health_") and key != "health_kl_max"},
    },
    choices={
        "task": "JR trains on DAPO-Math-17k: a line of {question, answer} for each of its rows, made by hand; those "
        "that no program can judge are named at the start, and --skip-bad-rows or --keep decides",
        "learning_rate_warm_up": "10 steps in the script; the paper says constant",
        "loss_level": "the default of the script's code base",
        "zero_truncated": "an answer that was cut has no box, which JR's verifier looks for; ours might find a number",
        "binary_reward": "as in JR, whose verifier compares strings; ours compares what they mean",
        "eval_prompts": "held-out rows; JR validates on AIME 24, AIME 25 and AMC 23",
        "save_every": "the script's; it also clips ratios of bad answers at 10 (dual clip), which is not here",
        "health_*": "ours",
    },
)

RECIPES = {
    "laptop": LAPTOP,
    "prorl-1.5b": PRORL,
    "prorl-1.5b-auto": AUTO,
    "prorl-v2-1.5b": V2,
    "brorl-1.5b": BRO,
    "justrl-1.5b": JUST,
}


def find(name: str) -> Recipe:
    """The recipe of that name.  Raises UserError."""
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}: give --recipe one of {', '.join(RECIPES)}")
    return RECIPES[name]


def show(recipe: Recipe) -> str:
    """The recipe as text: settings with a star where the value is a choice, stages, and the reasons for the choices."""
    lines = [recipe.about, "", "settings (* a choice: see below; what is not listed has the default of --help)"]
    for key, value in recipe.settings.items():
        star = "*" if key in recipe.choices or (key.startswith("health_") and "health_*" in recipe.choices) else " "
        lines.append(f"  {star} {key:24} {text(value)}")
    lines += ["", "stages, each inheriting from the one before"]
    start = 0
    for stage in recipe.stages:
        until = "a reset" if stage.ends_at_reset and stage.end is None else stage.end or recipe.settings["steps"]
        until = f"{until} or a reset" if stage.ends_at_reset and stage.end else until
        changes = ", ".join(f"{key} = {text(value)}" for key, value in stage.changes.items()) or "nothing changes"
        lines.append(f"    {stage.name:24} from {start} to {until}: {changes}")
        start = stage.end if stage.end is not None else "there"
    if recipe.choices:
        lines += ["", "choices"]
        lines += [f"  * {key:24} {why}" for key, why in recipe.choices.items()]
    return "\n".join(lines)


def text(value: Any) -> str:
    """A setting's value as it is shown."""
    return ", ".join(f"{k} {v:g}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def main(args: list[str]) -> int:
    """`list`, or `show NAME`: 0, or one sentence and 1."""
    try:
        match args:
            case ["list"]:
                print("\n".join(f"{name:16} {recipe.about}" for name, recipe in RECIPES.items()))
            case ["show", name]:
                print(show(find(name)))
            case _:
                return flags.usage(
                    "python -m prorl_scale.recipes list, or show NAME: the recipes, or all settings of one", args
                )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(flags.piped(lambda: main(sys.argv[1:])))
