"""Families of transformers go through the door for models: right, or refused in one sentence; never wrong."""

import pytest

from bench import architectures
from prorl_lab import probe


@pytest.mark.parametrize("kind", architectures.TEN)
def test_ten_families_are_right_or_refused(kind):
    verdicts = architectures.try_family(kind, with_vllm=False)
    want = {"qwen3_next": {"mini": "refused"}, "bert": {"mini": "refused"}}
    assert {where: architectures.mark(v) for where, v in verdicts.items()} == want.get(
        kind, {"mini": "right", "scale": "right"}
    )


def test_the_table_sees_what_is_wrong(monkeypatch):
    """The door left open: the script does not repeat the probe, it finds BERT and a window by itself."""
    monkeypatch.setattr(probe, "prove", lambda *args, **how: None)
    assert architectures.mark(architectures.try_family("bert", with_vllm=False)["mini"]) == "wrong"
    assert architectures.mark(architectures.try_family("bloom", with_vllm=False)["scale"]) == "wrong"
    assert architectures.mark(architectures.try_family("qwen3_next", with_vllm=False)["mini"]) == "traceback"


@pytest.mark.slow
def test_no_family_is_wrong_or_a_traceback():
    """All that build; about 150 (minutes).  vLLM is in the table of results/, by the script's --vllm."""
    found = {kind: architectures.try_family(kind, with_vllm=False) for kind in architectures.FAMILIES}
    bad = {kind: v for kind, v in found.items() if {architectures.mark(x) for x in v.values()} & {"wrong", "traceback"}}
    assert bad == {}
    assert architectures.count(found, "mini", "right") >= 80
