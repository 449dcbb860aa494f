"""Settings that can't work are refused before anything starts, in one sentence that names the flag; threads."""

import dataclasses
import math
import os
import subprocess
import sys
import typing

import pytest
import torch

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab import openmp, settings
from prorl_lab.errors import UserError
from prorl_scale.config import Config

RESOLVED = settings.resolve(Config(device="cpu"))


def of_type(kind):
    """Settings that may be a number of this type."""
    hints = typing.get_type_hints(Config)
    return [f.name for f in dataclasses.fields(Config) if kind in (hints[f.name], *typing.get_args(hints[f.name]))]


def refused(**changes):
    with pytest.raises(UserError) as error:
        dataclasses.replace(RESOLVED, **changes).check()
    return str(error.value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("name", of_type(float))
def test_a_float_that_is_no_number_or_negative(name, value):
    """Of every program, those that are added tomorrow included."""
    assert refused(**{name: value}).startswith(f"--{name.replace('_', '-')} must")


@pytest.mark.parametrize("name", of_type(int))
def test_a_negative_count(name):
    assert f"--{name.replace('_', '-')}" in refused(**{name: -1})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(grad_clip=0.0), "--grad-clip must be above 0, but is 0.0"),
        (dict(learning_rate=0.0), "--learning-rate must be above 0"),
        (dict(temperature=0.0), "--temperature must be above 0"),
        (dict(eval_temperature=0.0), "--eval-temperature must be above 0"),
        (dict(temperature=0.009), "--temperature 0.009 is below 0.01"),
        (dict(eval_temperature=1e-30), "--eval-temperature 1e-30 is below"),
        (dict(max_seconds=0.0), "--max-seconds must be above 0"),
        (dict(timeout_minutes=0.0), "--timeout-minutes must be above 0"),
        (dict(boundary_answers=0), "--boundary-answers is 0: give at least 1"),
        (dict(reset_steps=[5, -3]), "--reset-steps must not be negative, but is -3"),
        (dict(eval_sets={"8 words": math.nan}), "--eval-sets must be a finite number"),
        (dict(domains={"math": -1.0}), "--domains must not be negative"),
        (dict(loss_level="tokens"), "--loss-level is one of token, sample, not 'tokens'"),
        (dict(kl_kind="k4"), "--kl-kind is one of k1, k2, k3"),
        (dict(mismatch="tiss"), "--mismatch is one of off, tis, icepop, geometric"),
        (dict(mismatch_low=2.0, mismatch_high=2.0), "leave no ratio between them"),
        (dict(gpu_memory=1.5), "--gpu-memory 1.5 is a share"),
        (dict(eps_low=1.0), "--eps-low 1.0"),
    ],
)
def test_settings_that_cannot_work(changes, says):
    assert says in refused(**changes)


def test_zero_means_off_where_it_may():
    """Not every 0 is a mistake."""
    zeros = dict.fromkeys(("kl_coef", "weight_decay", "eps_high", "reset_margin", "length_bonus", "health_kl_max"), 0.0)
    dataclasses.replace(RESOLVED, **zeros, eval_every=0, boundary_prompts=0, reset_every=0, warm_up_steps=0).check()


@pytest.mark.parametrize(("name", "value"), [("seed", 2**63), ("steps", 10**400)])
def test_integers_that_nothing_can_count(name, value):
    """The first ends in an overflow of torch's generator; of the second, no float can hold it."""
    assert f"--{name}" in refused(**{name: value})
    dataclasses.replace(RESOLVED, seed=2**63 - 1).check()


def test_a_prompt_without_a_token_is_refused():
    """As of a tokenizer that knows none of the question's characters."""
    with pytest.raises(UserError, match="no token"):
        settings.that_fits([], None, RESOLVED)


@pytest.mark.parametrize("kind", [mini.Config, v2.Config, Config])
def test_names_with_rules_are_settings(kind):
    """A misspelt one would check nothing."""
    names = {f.name for f in dataclasses.fields(kind)}
    assert names >= kind.RESUMABLE | kind.NEED_VALIDATION
    assert names >= kind.POSITIVE


# ------------------------------------------------------------------ threads

LOOK = """
import os, sys
class Look:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            sys.exit(str([os.environ.get(v) for v in %r]))
sys.meta_path.insert(0, Look())
import %s
"""


@pytest.mark.parametrize("program", ["prorl_mini", "prorl_v2", "prorl_scale.train", "prorl_scale.evaluate.__main__"])
@pytest.mark.parametrize("own", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}], ids=str)
def test_threads_are_told_how_to_wait_before_torch_is_loaded(program, own):
    """It reads that once.  A person's own settings stay."""
    bare = {k: v for k, v in os.environ.items() if k not in {*openmp.PATIENCE, "OMP_WAIT_POLICY"}}
    code = LOOK % (list(openmp.PATIENCE), program)
    done = subprocess.run(
        [sys.executable, "-c", code], env={**bare, **own}, capture_output=True, text=True, check=False
    )
    ours = {} if "OMP_WAIT_POLICY" in own else openmp.PATIENCE
    assert done.stderr.strip() == str([{**ours, **own}.get(name) for name in openmp.PATIENCE])


@pytest.mark.parametrize(
    ("usable", "torch_s", "ranks", "said", "small", "want"),
    [
        (8, 8, 1, None, False, 8),
        (8, 8, 1, None, True, 2),
        (1, 8, 1, None, True, 1),  # a container with one of eight processors
        (3, 8, 1, None, False, 3),
        (16, 8, 1, None, False, 8),  # two halves to each core
        (8, 5, 1, "5", True, 5),  # a person's own wish
        (8, 1, 1, "1", False, 1),
        (8, 1, 2, "1", False, 4),  # torchrun's, which nobody wished
        (8, 1, 16, "1", False, 1),
        (8, 3, 2, "3", False, 3),
    ],
)
def test_threads_by_processors_and_size(monkeypatch, usable, torch_s, ranks, said, small, want):
    monkeypatch.setattr(settings, "usable_processors", lambda: usable)
    monkeypatch.setattr(torch, "get_num_threads", lambda: torch_s)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if said:
        monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert settings.default_threads(small) == want
