"""Which threads of gloo outlive `destroy_process_group`?   python results/2026-11-27-scale-infra/gloo_threads.py"""

import collections
import gc
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


def threads():
    """Names of this process's threads, counted (Linux)."""
    return dict(collections.Counter(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")))


dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
dist.barrier()
print("with the group:         ", threads())
model = torch.nn.Linear(4, 4)
fully_shard(model, mesh=init_device_mesh("cpu", (1,)))
dist.destroy_process_group()
print("destroyed:              ", threads())
del model
gc.collect()
print("and the model is gone:  ", threads())
