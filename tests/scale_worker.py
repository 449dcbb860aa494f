"""What the two processes of test_scale_parity.py run: frozen rollouts through prorl_scale; rank 0 writes the results.

torchrun ... tests/scale_worker.py FOLDER   reads FOLDER/model and FOLDER/frozen.pt, writes FOLDER/scale.pt
"""

import sys
from pathlib import Path

import torch

from prorl_scale import distributed, policy, train
from prorl_scale.config import Config


def whole(tensors):
    """Sharded tensors by name -> whole ones."""
    return {name: tensor.full_tensor().clone() for name, tensor in tensors}


def gradient(run, samples):
    """One update with the optimizer's step taken out -> its figures and the gradient by name."""
    kept = {}

    def keep():
        kept.update(whole((name, p.grad) for name, p in run.policy.model.named_parameters()))

    step, run.optimizer.step = run.optimizer.step, keep
    stats = train.update(run, samples)
    run.optimizer.step = step
    return {"stats": stats, "gradient": kept}


def main(folder):
    with distributed.joined("cpu", 2):
        score(folder)
    return 0


def score(folder):
    policy.LOGITS_AT_ONCE = 2000  # several chunks of the head in each micro-batch
    frozen = torch.load(folder / "frozen.pt", weights_only=True)
    samples = [train.Sample(**s) for s in frozen["samples"]]
    results = {}
    for name, settings in frozen["cases"].items():
        config = Config(**settings)
        scorer, reference, _ = policy.load(config, str(folder / "model"))
        optimizer = torch.optim.AdamW(
            scorer.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        run = train.Run(config, scorer, reference, optimizer, None, None, None, None)
        run.policy.train(config.gradient_checkpointing)
        results[name] = gradient(run, samples)
        results[name]["scores"] = policy.score_samples(scorer, samples, config.microbatch_tokens, 1.2, True)
        results[name]["micro_batches"] = len(train.batch.cut(samples, config.microbatch_tokens, distributed.world())[0])
        train.update(run, samples)
        results[name]["stepped"] = whole(scorer.model.state_dict().items())
        groups = [samples[i : i + 3] for i in range(0, len(samples), 3)]
        results[name]["further"] = train.update_all(run, groups)
        results[name]["final"] = whole(scorer.model.state_dict().items())
        for model in (scorer, reference):  # leaves the root's weights gathered, unless they are put back
            policy.score_samples(model, samples, config.microbatch_tokens, 1.2)
        train.reset_reference(run.policy, run.reference, run.optimizer)
        results[name]["reference"] = whole(reference.model.state_dict().items())
        results[name]["optimizer_entries"] = len(run.optimizer.state)
        pairs = (policy.score_samples(model, samples, 10_000, 1.2) for model in (scorer, reference))
        results[name]["agree"] = all(torch.equal(a, b) for (a, _), (b, _) in zip(*pairs, strict=True))
    if distributed.rank() == 0:
        torch.save(results, folder / "scale.pt")


if __name__ == "__main__":
    distributed.leave(lambda: main(Path(sys.argv[1])))
