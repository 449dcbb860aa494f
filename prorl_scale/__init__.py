"""ProRL on many GPUs: the stages of `prorl_mini` under torchrun, with FSDP2 and vLLM.  No formula lives here."""

import prorl_lab.openmp  # noqa: F401  before torch, which reads once how its threads are to wait
