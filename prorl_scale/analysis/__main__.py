"""`python -m prorl_scale.analysis`: see the package's own text for what goes in and comes out."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path

from prorl_lab import flags
from prorl_lab.errors import UserError
from prorl_lab.later import Later

# `--help` is not to wait for torch and matplotlib.
environment = Later("prorl_lab.run_folder", "environment")
page, sections, load, sources = (Later(f"{__package__}.{name}") for name in ("page", "sections", "load", "sources"))


@dataclass
class Settings:
    """Tables, figures and one page on what RL changed, from evaluations of its checkpoints."""

    out: str
    """Where to write: a new folder, or one that an analysis made, which is replaced."""
    runs: str | None = None
    """Evaluation folder, as written by prorl_scale.evaluate."""
    curves: str | None = None
    """JSON file of published pass@k curves, instead of --runs or beside it."""
    training: str | None = None
    """Run folder of the training, for its course across resets."""
    corpus: tuple[str, ...] = ()
    """Text files, JSON-lines files or folders of them to look for the answers' words in (creativity index)."""
    lengths: tuple[int, int] = (5, 12)
    """Shortest and longest span of the creativity index, in words."""
    creativity_answers: int = 8
    """Answers per prompt that the creativity index reads."""
    examples: int = 5
    """Prompts shown with an answer, of the newly solvable and of the lost."""
    title: str = "Does RL expand what the model can do?"
    """Title of the page."""


NAMES = {
    "passk": "pass@k, regimes and gain (need --runs or --curves)",
    "distribution": "distribution of pass@1 and its bound (needs --runs)",
    "solvable": "newly solvable and lost prompts (needs --runs)",
    "creativity": "creativity index (needs --runs and --corpus)",
    "difficulty": "difficulty and tasks never trained on (needs sets with tiers, sizes, or of those tasks)",
    "training": "training across resets (needs --training)",
}


def analyse(settings: Settings) -> None:
    """Read, compute, write.  Raises UserError with nothing written."""
    if not (settings.runs or settings.curves or settings.training):
        raise UserError("nothing to analyse: give --runs, --curves or --training")
    if settings.corpus and not settings.runs:
        raise UserError("--corpus needs the answers of an evaluation: give --runs as well")
    shortest, longest = settings.lengths
    if not 1 <= shortest <= longest:
        raise UserError(f"--lengths {shortest} {longest} is no range of words: give, say, 5 12")
    if settings.creativity_answers < 1 or settings.examples < 0:
        raise UserError("--creativity-answers must be at least 1 and --examples at least 0")
    page.check_folder(Path(settings.out))
    evaluation = load.load_evaluation(Path(settings.runs)) if settings.runs else None
    curves = load.load_published(Path(settings.curves)) if settings.curves else None
    training = load.load_training(Path(settings.training)) if settings.training else None

    mine = sources.measured(evaluation) if evaluation else None
    theirs = sources.published(curves) if curves else None
    known = [source for source in (mine, theirs) if source]
    made = []
    if known:
        made += [sections.pass_at_k_section(mine, evaluation, theirs)]
        made += [sections.regimes_section(known), sections.gain_section(known)]
    if mine:
        made.append(sections.distribution_section(evaluation, mine))
        made.append(sections.solvable_section(evaluation, mine, settings.examples))
        if settings.corpus:
            corpus = [Path(path) for path in settings.corpus]
            lengths = range(shortest, longest + 1)
            made.append(sections.creativity_section(evaluation, mine, corpus, lengths, settings.creativity_answers))
    made.append(sections.difficulty_section(evaluation, known))
    if training:
        made.append(sections.training_section(training))
    made = [section for section in made if section]
    absent = [name for key, name in NAMES.items() if key not in {section.anchor for section in made}]
    config = {"settings": dataclasses.asdict(settings), **environment()}
    page.write(Path(settings.out), settings.title, made, absent, config)


def main(arguments: list[str] | None = None) -> int:
    try:
        settings = flags.read(
            Settings, sys.argv[1:] if arguments is None else arguments, prog="python -m prorl_scale.analysis"
        )
        analyse(settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"page: {Path(settings.out) / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
