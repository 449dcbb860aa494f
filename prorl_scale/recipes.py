"""Named settings.  A recipe is nothing but values for `prorl_scale.config.Config`."""

RECIPES = {
    # The tiny model of `make mini` on two CPU processes, with real vLLM rollouts.
    "laptop": {
        "model": "laptop",
        "steps": 40,
        "rollout_batch": 256,
        "microbatch_tokens": 8192,
        "reset_every": 20,
        "boundary_prompts": 24,
        "boundary_answers": 16,
    },
}
