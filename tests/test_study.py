"""The laptop study: a tiny one end to end, killed on the way; the statistics; one sentence for each mistake."""

import dataclasses
import doctest
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

import prorl_mini as mini
from prorl_lab import compare, laptop, studies, study, study_report, tasks
from prorl_lab.errors import UserError
from prorl_lab.intervals import seeds_interval
from prorl_lab.run_folder import to_store
from prorl_lab.studies import Claim, Study, against, gain, late, pass_at, validation, validation_at_tokens

ROOT = Path(__file__).parents[1]
LAPTOP = ROOT / "results/2026-11-23-laptop"
TINY = Study(
    question="Does it run?",
    paper="None",
    arms={"ProRL": "", "cold": "--temperature 0.8"},
    claims=against("ProRL", "cold", ("entropy is higher", late("entropy"), "nats", 0.02)),
    equal="updates",
    common="--steps 3 --warm-up-steps 300 --prompts-per-step 4 --answers-per-prompt 8 --eval-every 3 --eval-prompts 1 "
    "--eval-answers 1 --boundary-prompts 0 --save-every 1 --reset-every 0 --no-dynamic-sampling",
    seeds=(0, 1),
)


def test_examples():
    for module in (compare, study, study_report):
        assert doctest.testmod(module).attempted > 0
        assert doctest.testmod(module).failed == 0


# ------------------------------------------------------------------ statistics


@pytest.mark.parametrize("seeds", [2, 3, 5, 12])
@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_interval_of_paired_differences_is_students(seeds, confidence):
    values = np.random.default_rng(seeds).normal(0.3, 0.1, seeds)
    exact = ttest_1samp(values, 0).confidence_interval(confidence)
    assert seeds_interval(values, confidence) == pytest.approx(tuple(exact))


def test_three_seeds_by_hand():
    """1, 2, 3: mean 2, s = 1, t(0.975, 2) = 4.3027; the mean of two more lies within sqrt(1/3 + 1/2)."""
    assert seeds_interval(np.array([1.0, 2.0, 3.0])) == pytest.approx(
        (2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rel=1e-4
    )
    wide = 4.3027 * (1 / 3 + 1 / 2) ** 0.5
    assert seeds_interval(np.array([1.0, 2.0, 3.0]), fresh=2) == pytest.approx((2 - wide, 2 + wide), rel=1e-4)


def test_a_fresh_mean_falls_inside_as_often_as_said():
    draws = np.random.default_rng(0).normal(0, 1, (4000, 7))
    inside = 0
    for row in draws:
        low, high = seeds_interval(row[:5], fresh=2)
        inside += low <= row[5:].mean() <= high
    assert inside / len(draws) == pytest.approx(0.95, abs=0.015)


def test_without_scatter_there_is_no_certainty():
    for values in ([0.2], [0.0, 0.0, 0.0], [0.1 + 0.2, 0.3]):
        assert seeds_interval(np.array(values)) == (-np.inf, np.inf)
    for wrong in ([], [0.1, np.nan]):
        with pytest.raises(ValueError, match="finite"):
            seeds_interval(np.array(wrong))


def finding(values, least=0.05, sign=1, claims=1):
    claim = Claim("", lambda run, tokens: 0.0, "", "a", "b", least, sign)
    return study_report.Finding(claim, dict(enumerate(values)), claims)


def test_verdicts():
    assert finding([0.2, 0.21, 0.22]).verdict == "supported"
    assert finding([-0.2, -0.21, -0.22], sign=-1).verdict == "supported"
    assert finding([0.2, 0.21, 0.22], sign=-1).verdict == "not supported"
    assert finding([0.01, 0.011, 0.012]).verdict == "not supported"  # real, and too small to matter
    assert finding([-0.1, 0.1, 0.3]).verdict == "inconclusive"
    assert finding([0.0, 0.0, 0.0]).verdict == "inconclusive"


def test_several_claims_need_more_than_one():
    values = [0.1, 0.2, 0.3]  # 95 %: -0.048 to 0.448
    assert finding(values, claims=1).interval(together=True) == finding(values, claims=9).interval()
    low, high = finding(values, claims=5).interval(together=True)
    margin = t.ppf(1 - 0.05 / 5 / 2, 2) * 0.1 / 3**0.5
    assert (low, high) == pytest.approx((0.2 - margin, 0.2 + margin))


# ------------------------------------------------------------------ the studies as data


@pytest.mark.parametrize("name", [name for name, one in studies.STUDIES.items() if not one.needs])
def test_every_study_that_can_run_has_flags_that_parse(name, tmp_path):
    one = studies.STUDIES[name]
    assert len(one.seeds) >= 3
    resolved = {job.arm: study.resolved(job) for job in study.jobs_of(one, [0], tmp_path)}
    assert len({json.dumps(dataclasses.asdict(config) | {"out": ""}) for config in resolved.values()}) == len(resolved)
    for claim in one.claims:
        assert {claim.arm, claim.than} - {None} <= set(one.arms)
        assert claim.least > 0


def test_arms_of_one_home_and_name_are_the_same_run():
    runs = {}
    for one in studies.STUDIES.values():
        for arm, flags in one.arms.items():
            assert runs.setdefault((one.home, arm), (one.common, flags, one.program)) == (
                one.common,
                flags,
                one.program,
            )


def test_an_arm_leaves_out_what_the_base_never_or_always_solves(monkeypatch):
    """Of the set of prompts only those remain, each once an epoch; what is held out is that of the laptop task."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    import worker_pass_rate as worker

    class Known(worker.Run):  # a base that solves every list of up to 6 words, none above 12, half of the others
        def write(self, problems, prompts, count, *rest):
            words = [problem.entry["metadata"]["num_words"] for problem in problems]
            right = [count if n <= 6 else 0 if n > 12 else count // 2 for n in words]
            return [[mini.Sample([1], [1, 2], reward=float(i < c)) for i in range(count)] for c in right]

    policy = SimpleNamespace(device="cpu", config=laptop.model_config(laptop.WarmUp(), 300))

    def run_of(**settings):
        config = study.settings.resolve(worker.Config(pool=60, **settings))
        return Known(config, policy, None, None, laptop.build_tokenizer(), tasks.LaptopTask(0, [1]), None, None)

    run, everything = run_of(pass_rate=[0.02, 0.98]), run_of()
    drawn = [run.task.problem("train", number) for number in range(len(run.task.numbers))]
    assert {problem.entry["metadata"]["num_words"] for problem in drawn} == set(range(7, 13))
    assert len({problem.prompt for problem in drawn}) == len(drawn) < 60 == len(everything.task.numbers)
    assert run.task.problem("train", len(drawn)).prompt in {problem.prompt for problem in drawn}  # they come again
    held = [each.problem("held-out", 3, "8 words").prompt for each in (run.task, everything.task)]
    assert held == 2 * [tasks.LaptopTask(0, [1]).problem("held-out", 3, "8 words").prompt]
    assert (run.estimated, everything.estimated) == (60 * 8 * 2, 0)
    with pytest.raises(UserError, match=r"solves no prompt in 0\.6 to 0\.9"):
        run_of(pass_rate=[0.6, 0.9])


def test_scores_at_equal_tokens_count_an_estimate_as_well():
    rows = [{"step": step, "tokens": 1000, "tokens_estimate": 1000 * (step == 1)} for step in (1, 2, 3)]
    rows += [
        {"event": "evaluation", "step": step, "score": step / 10, "tiers": dict.fromkeys(studies.HARD, step / 100)}
        for step in range(4)
    ]
    run = compare.RunData(Path("run"), {}, rows)
    assert validation_at_tokens(run, 2500) == pytest.approx(0.25)
    assert studies.validation_at_cost(run, 2500) == pytest.approx(0.15)
    assert studies.hard_at_tokens(run, 2500) == pytest.approx(0.025)
    assert studies.share("tokens_estimate", "tokens")(run, 0) == pytest.approx(1 / 3)


def test_measures_of_recorded_runs():
    """Against the numbers in their own files."""
    run = compare.read_run(LAPTOP / "prorl-0")
    tiers = json.loads((LAPTOP / "prorl-0/summary.json").read_text())["tiers"]
    assert pass_at(64, ("14 words",))(run, 0) == tiers["14 words"]["final"]["pass@k"]["64"]
    rise = tiers["14 words"]["final"]["pass@1"] - tiers["14 words"]["middle"]["pass@1"]
    assert gain(1, ("14 words",), "middle")(run, 0) == pytest.approx(rise)
    scores, totals = compare.curve(run, "validation"), compare.curve(run, "tokens")
    assert totals[100] == sum(row["tokens"] for row in run.steps) / 1e6
    assert validation_at_tokens(run, 1e6 * totals[50]) == pytest.approx(scores[50])
    halfway = 1e6 * (totals[50] + totals[60]) / 2
    assert validation_at_tokens(run, halfway) == pytest.approx((scores[50] + scores[60]) / 2)
    assert validation(run, 0) == scores[100]


def test_the_page_of_results_says_what_the_reports_found():
    """Every figure in it comes from a study.json, and those from the runs that lie in results/."""
    assert (ROOT / "results/README.md").read_text() == study_report.overview(ROOT / "results")


def test_the_study_of_recorded_runs_is_made_from_them(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    (recorded,) = (path for path, value in study_report.studies_in(Path("results")) if value["study"] == "together")
    args = ["report", "together", "--recorded", str(LAPTOP.relative_to(ROOT)), "--results", str(tmp_path)]
    assert study.main(args) == 0
    (made,) = tmp_path.glob("*-study-together")
    for name in ("README.md", "study.json", "curves.csv"):
        assert (made / name).read_text() == (recorded / name).read_text()


def test_fresh_seeds_are_set_beside_the_intervals_and_count_for_none(tmp_path):
    one = studies.STUDIES["together"]
    runs = study.read_recorded(study.jobs_of(one, [0, 1, 2], tmp_path), LAPTOP)
    folder = study_report.report("together", one, {0: runs[0], 1: runs[1]}, {2: runs[2]}, tmp_path)
    row = json.loads((folder / "study.json").read_text())["findings"][0]
    values = [pass_at(1)(runs[seed]["prorl"], 0) - pass_at(1)(runs[seed]["plain"], 0) for seed in (0, 1, 2)]
    assert row["effect"] == pytest.approx(np.mean(values[:2]), abs=1e-6)
    assert row["fresh"] == {"2": pytest.approx(values[2], abs=1e-6)}
    assert row["fresh_interval"] == pytest.approx(seeds_interval(np.array(values[:2]), fresh=1), abs=1e-6)
    text = (folder / "README.md").read_text()
    assert "Seeds 2, run by the same command and used for nothing above." in text
    assert f"| prorl less plain | {study_report.number(values[2])} | yes |" in text  # two seeds: -0.49 to 0.88


def test_the_readme_quotes_the_study():
    (values,) = (value for _, value in study_report.studies_in(ROOT / "results") if value["study"] == "together")
    row = next(r for r in values["findings"] if r["than"] == "plain-longer" and r["claim"].startswith("pass@1"))
    low, high = row["interval"]
    text = " ".join((ROOT / "README.md").read_text().split())
    words = f"is {row['effect']:.2f} with a 95 % interval over seeds from {low:.2f} to {high:.2f}: {row['verdict']}"
    assert words in text


# ------------------------------------------------------------------ compare


def test_compare_takes_seeds_together_and_names_what_differs(tmp_path, capsys):
    runs = [str(LAPTOP / name) for name in ("prorl-0", "prorl-1", "plain-0", "plain-1", "plain-2")]
    scale = str(ROOT / "results/2026-11-27-laptop-recipe")
    assert compare.main([*runs, scale, "--out", str(tmp_path / "figure.png")]) == 0
    text = capsys.readouterr().out
    arms = compare.into_arms(compare.read_run(Path(run)) for run in runs)
    assert [len(arm) for arm in arms.values()] == [2, 3]
    assert "| eps_high | 0.4 | 0.2 | 0.4 |" in text
    assert "| seed |" not in text
    ends = [compare.curve(run, "validation")[100] for run in next(iter(arms.values()))]
    assert f"{np.mean(ends):.3g} ({min(ends):.3g} to {max(ends):.3g})" in text
    assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_seeds_meet_at_the_steps_that_all_have():
    steps, mean, low, high = compare.over_seeds([{1: 0.0, 2: 4.0, 3: 9.0}, {1: 1.0, 2: 2.0}])
    assert (steps, mean.tolist(), low.tolist(), high.tolist()) == ([1, 2], [0.5, 3.0], [0.0, 2.0], [1.0, 4.0])


def test_half_a_line_of_a_run_at_work_is_not_read(tmp_path):
    for name in ("config.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes((LAPTOP / "prorl-0" / name).read_bytes())
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 101, "rew')
    assert compare.read_run(tmp_path).steps[-1]["step"] == 100


# ------------------------------------------------------------------ end to end


def test_a_study_killed_in_the_middle_goes_on_and_is_reported(tmp_path, monkeypatch, capsys, one_thread):
    """Killed while runs are at work: none is left running, and the second call ends as one straight run does."""
    monkeypatch.chdir(ROOT)
    out, results = tmp_path / "runs", tmp_path / "results"
    cache = f" --base-cache {tmp_path / 'base'}"
    one = laptop.warm_up(laptop.WarmUp(steps=300))
    monkeypatch.setattr(laptop, "warm_up", lambda settings: one)  # two seeds of a base model need not be two here
    for seed in TINY.seeds:
        laptop.base_model_folder(laptop.WarmUp(seed=seed, steps=300), tmp_path / "base")
    tiny = {"tiny": dataclasses.replace(TINY, common=TINY.common + cache)}
    command = f"""
import dataclasses
from tests.test_study import TINY, study
tiny = dataclasses.replace(TINY, common=TINY.common + {cache!r})
study.main(["run", "tiny", "--jobs", "1", "--out", {str(out)!r}], {{"tiny": tiny}})
"""
    first = subprocess.Popen([sys.executable, "-c", command], cwd=ROOT)
    log = out / "small/ProRL-0.log"
    wait_until(lambda: first.poll() is not None or (log.exists() and "step     1" in log.read_text()))
    assert first.poll() is None
    first.send_signal(signal.SIGKILL)
    first.wait()
    wait_until(lambda: not (out / "small/ProRL-0/lock").exists())  # it saved, and ended
    assert study.main(["run", "tiny", "--jobs", "2", "--out", str(out)], tiny) == 0
    assert "4 of 4 runs, 12 of 12 steps" in capsys.readouterr().out
    rows = [json.loads(line) for line in (out / "small/ProRL-0/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "event" not in row] == [1, 2, 3]

    assert study.main(["report", "tiny", "--out", str(out), "--results", str(results)], tiny) == 0
    (folder,) = results.glob("*-study-tiny")
    found = json.loads((folder / "study.json").read_text())["findings"][0]
    for seed in ("0", "1"):
        ends = [
            [json.loads(line) for line in (out / f"small/{arm}-{seed}/metrics.jsonl").read_text().splitlines()]
            for arm in ("ProRL", "cold")
        ]
        means = [np.mean([row["entropy"] for row in rows if "event" not in row]) for rows in ends]
        assert found["by_seed"][seed] == pytest.approx(means[0] - means[1], abs=1e-6)
    assert {path.name for path in folder.iterdir()} == {"README.md", "study.json", "curves.csv", "figure.png"}
    assert found["verdict"] in (folder / "README.md").read_text()
    assert_mistakes_are_one_sentence(tiny, out, results, capsys)


def wait_until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def assert_mistakes_are_one_sentence(tiny, out, results, capsys):
    """With the finished runs at hand."""
    other = {"tiny": dataclasses.replace(tiny["tiny"], arms={**TINY.arms, "cold": "--temperature 0.9"})}
    for known, args, words in [
        (tiny, ["run", "nonsense"], "there is no study 'nonsense': choose one of tiny"),
        (tiny, ["run", "tiny", "--seeds", "0", "0"], "give each seed once"),
        (tiny, ["report", "tiny", "--seeds", "0", "1", "--fresh", "1"], "give each seed once"),
        (tiny, ["run", "tiny", "--jobs", "0"], "--jobs must be at least 1"),
        (tiny, ["report", "tiny", "--seeds", "0"], "1 seeds are whole, and a mean needs two"),
        (tiny, ["report", "tiny", "--fresh", "7"], "of the 1 fresh seeds 0 are whole"),
        (other, ["run", "tiny"], "holds a run of other settings (temperature)"),
    ]:
        where = ["--results", str(results)] if args[0] == "report" else []
        assert study.main([*args, "--out", str(out), *where], known) == 1
        said = capsys.readouterr().err
        assert words in said
        assert said.startswith("error: ")
        assert said.count("\n") == 1


# ------------------------------------------------------------------ bad input


def test_an_arm_with_an_unknown_flag_is_one_sentence_before_anything_runs(tmp_path, capsys):
    wrong = dataclasses.replace(TINY, arms={"ProRL": "", "odd": "--kl-cofe 0"})
    assert study.main(["run", "tiny", "--out", str(tmp_path)], {"tiny": wrong}) == 1
    said = capsys.readouterr().err
    assert "prorl_mini.py does not take the flags of arm 'odd'" in said
    assert "--kl-cofe" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_study_that_needs_something_says_what(capsys):
    assert study.main(["run", "second-task"]) == 1
    assert "it needs a second task that moves" in capsys.readouterr().err


def test_a_study_of_a_model_that_is_not_made_yet_says_how_to_make_it(tmp_path, monkeypatch, capsys):
    (tmp_path / "task.py").touch()
    monkeypatch.chdir(tmp_path)
    one = dataclasses.replace(TINY, common="--model runs/mine --task task.py", base="python make_it.py runs/mine")
    assert study.main(["run", "tiny"], {"tiny": one}) == 1
    said = capsys.readouterr().err
    assert said == "error: study tiny trains runs/mine, which is not here yet: python make_it.py runs/mine\n"
    assert not (tmp_path / "runs").exists()


def test_a_run_of_a_folder_and_a_file_is_known_again_and_reported_without_their_place(tmp_path, monkeypatch):
    """A run folder keeps their full paths, for a resume from elsewhere; those of a study are given from here."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "task.py").touch()
    monkeypatch.chdir(tmp_path)
    one = dataclasses.replace(TINY, arms={"ProRL": ""}, common=f"--model mine --task task.py --steps 3 {TINY.common}")
    (job,) = study.jobs_of(one, [0], tmp_path)
    job.folder.mkdir(parents=True)
    stored = to_store(study.resolved(job))
    assert stored["task"] == str(tmp_path / "task.py")
    (job.folder / "config.json").write_text(json.dumps({"settings": stored}))
    assert study.state_of(job) == "begun"
    told = study_report.of_the_arm(stored)
    assert (told["model"], told["task"]) == ("mine", "task.py")
    assert str(tmp_path) not in json.dumps(told)


def test_runs_of_several_commits_are_not_mixed(tmp_path):
    for seed, commit in ((0, "aaa"), (1, "bbb")):
        for job in study.jobs_of(TINY, [seed], tmp_path):
            settings = dataclasses.asdict(study.resolved(job))
            job.folder.mkdir(parents=True)
            (job.folder / "config.json").write_text(json.dumps({"settings": settings, "commit": commit}))
            (job.folder / "metrics.jsonl").write_text("")
            (job.folder / "summary.json").write_text(json.dumps({"steps": 3}))
    with pytest.raises(UserError, match="several commits \\(aaa, bbb\\)"):
        study.read_seeds(study.jobs_of(TINY, [0, 1], tmp_path))


def test_compare_refuses_what_is_no_run_and_what_counts_twice(tmp_path, capsys):
    run, copy = LAPTOP / "prorl-0", tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "metrics.jsonl"):
        (copy / name).write_bytes((run / name).read_bytes())
    (tmp_path / "empty").mkdir()
    for args, words in [
        ([run, run], "given twice"),
        ([run, copy], "one arm with one seed"),
        ([tmp_path / "empty"], "is not a run folder"),
        ([tmp_path / "nowhere"], "is not a run folder"),
        ([run, "--out", tmp_path / "figure.svg"], "ends in .png"),
        ([run, "--out", tmp_path / "nowhere/figure.png"], "can't write"),
    ]:
        assert compare.main(list(map(str, args))) == 1
        said = capsys.readouterr().err
        assert words in said
        assert said.count("\n") == 1
