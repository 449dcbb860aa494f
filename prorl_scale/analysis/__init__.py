"""Boundary analysis: does RL expand what the model can do?

    python -m prorl_scale.analysis --runs DIR --out DIR                        # an evaluation (prorl_scale.evaluate)
    python -m prorl_scale.analysis --runs DIR --training RUN --out DIR         # and how its training went
    python -m prorl_scale.analysis --runs DIR --corpus texts/ --out DIR        # and the creativity index over texts
    python -m prorl_scale.analysis --curves passk.json --out DIR               # published pass@k curves instead

Writes tables (`*.csv`), figures (`figures/*.png`, `*.svg`), the settings (`config.json`) and one page, `index.html`,
that needs no other file.  Every number on the page that was computed stands in a CSV file too: those of the tables in
the file named under the table, those of the sentences in `facts.csv`.  What the input does not allow is left out, and
the page says so at its end.

An evaluation folder, whose models are in the order of training (first: base; last: final; between: intermediate):

    config.json               {"models": {"base": ..., "mid": ..., "final": ...}, ...}
    prompts/SET.jsonl         {"id", "set", "domain", "tier": text or null, "prompt", "reference"}
    answers/MODEL/SET.jsonl   {"id", "sample", "text", "tokens", "truncated", "score" in [0, 1], "status"},
                              and "original_score" where a corrected scorer stands beside a task's own

Published curves: {SET: {"base": [pass@1, pass@2, pass@4, ...], "inter": [...], "final": [...]}, ...}; "inter" may lack.

    load.py         the three inputs, checked               regimes.py    regimes, regression, families by size
    curves.py       pass@k, bands, bound, exact bounds      creativity.py the creativity index
    sources.py      sets and tiers with their curves        sections/     tables, figures and text, a file each
    figures.py, page.py, page.html   how they look          __main__.py   the command line
"""
