"""ProRL on many GPUs: the stages of `prorl_mini`, each with what scale adds around it."""
