"""Settings that can't work are refused before anything starts, in one sentence that names the flag."""

import dataclasses
import math
import typing

import pytest

import prorl_mini as mini
import prorl_v2 as v2
from prorl_lab import settings
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
        (dict(mismatch="tiss"), "--mismatch is one of off, tis, icepop"),
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


@pytest.mark.parametrize("kind", [mini.Config, v2.Config, Config])
def test_names_with_rules_are_settings(kind):
    """A misspelt one would check nothing."""
    names = {f.name for f in dataclasses.fields(kind)}
    assert names >= kind.RESUMABLE | kind.NEED_VALIDATION
    assert names >= kind.POSITIVE
