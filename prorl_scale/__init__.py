"""ProRL on many GPUs: the stages of `prorl_mini` under torchrun, with FSDP2 and vLLM.  No formula lives here."""
