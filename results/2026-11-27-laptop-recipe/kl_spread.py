"""The KL of prorl_mini's first step over ten draws of prompts and answers, from one base model.

PYTHONPATH=. python results/2026-11-27-laptop-recipe/kl_spread.py

Frozen with its figures: run it in a checkout of commit b941f08, since names of the project have moved on.
"""

import copy

import torch

import prorl_mini as mini


def main() -> None:
    config = mini.Config(out="runs/kl-spread", eval_every=0, boundary_prompts=0)
    run = mini.start_run(mini.cli.resolve(config))
    start = copy.deepcopy(run.policy.state_dict())
    for seed in range(10):
        run.policy.load_state_dict(start)
        run.optimizer.state.clear()
        run.state = mini.State(cursor=seed * 1000)
        run.generator.manual_seed(seed)
        groups, _ = mini.collect_groups(run)
        mini.add_advantages(groups, 0, run.config)
        mini.add_logprobs(run, groups)
        stats = mini.update_all(run, groups)
        samples = [sample for group in groups for sample in group]
        after = mini.score_samples(run.policy, samples, run.config)
        kl = torch.cat([mini.kl_estimate(logp, sample.ref_logp, "k3") for sample, logp, _ in after])
        share = kl.sort().values[-10:].sum() / kl.sum()
        print(f"draw {seed}: KL {stats['kl']:.4f}; after the step ten of {len(kl)} tokens make up {share:.0%} of it")


if __name__ == "__main__":
    main()
