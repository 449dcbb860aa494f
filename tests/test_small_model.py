"""The task of the study real-model, and the warm-up of its base: what they teach, and what they do not."""

import pytest
from transformers import ByT5Tokenizer, LlamaConfig, LlamaForCausalLM

from bench import smollm2
from prorl_lab import tasks
from prorl_lab.own import OwnTask
from prorl_lab.verify import Verifier


@pytest.fixture(scope="module")
def task():
    verifier = Verifier(seconds=5)
    yield OwnTask(smollm2.TASK, None, 0, [], verifier)
    verifier.close()


def test_the_largest_alone_is_right(task):
    for numbers in ([23, 71, 48], [71, 23, 48], [48, 23, 71]):
        problem = tasks.Problem("largest", "?", {"split": "train", "problem": {"numbers": numbers}})
        assert task.score([(problem, text) for text in ("23", "71", "48", "71\n", "It is 71.", "717", "")]) == [
            *(0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0)
        ]


def test_a_guess_is_right_one_time_in_three(task):
    """So no place in the question is right more often than another."""
    problems = [task.problem("train", number) for number in range(300)]
    for place in range(3):
        scores = task.score([(p, str(p.entry["problem"]["numbers"][place])) for p in problems])
        assert sum(scores) / len(scores) == pytest.approx(1 / 3, abs=0.09)  # three deviations of 300 guesses


def test_the_warm_up_shows_right_and_wrong_numbers_alike(task):
    tokenizer = ByT5Tokenizer()
    for number in range(20):
        problem = task.problem("train", number)
        samples = smollm2.form_of(tokenizer, problem, end=1)
        assert [sample.answer[-1] for sample in samples] == [1, 1, 1]
        texts = [tokenizer.decode(sample.answer[:-1]) for sample in samples]
        assert texts == [str(n) for n in problem.entry["problem"]["numbers"]]
        assert sum(task.score([(problem, text) for text in texts])) == 1


def test_the_warm_up_learns_the_form(capsys):
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=384, eos_token_id=1, **size)).eval()
    losses = smollm2.warm_up(model, ByT5Tokenizer(), steps=25, prompts=2, learning_rate=1e-2)
    assert losses[0] > 5  # of 384 tokens, 5.95 by chance
    assert losses[-1] < 3
    assert len(capsys.readouterr().out.splitlines()) == 25


def test_what_is_there_already_and_what_is_missing_are_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["smollm2.py", str(tmp_path)])
    assert smollm2.main() == 1
    assert capsys.readouterr().err == f"error: {tmp_path} is there already: give another, or remove it\n"
    monkeypatch.setattr("sys.argv", ["smollm2.py", str(tmp_path / "new")])
    monkeypatch.setattr(smollm2, "installed", lambda: False)
    assert smollm2.main() == 1
    assert "is not installed" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
