"""Fixtures for any test file."""

import os

# For this process and those that tests start: beside other work two threads wait for each other at every small product,
# and a suite of minutes takes an hour.  It also makes what is compared independent of the machine's processors.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import prorl_lab.openmp  # noqa: F401  before torch, which reads once how its threads are to wait

import pytest
import torch
import torch.distributed as dist


@pytest.fixture(scope="module")
def one_thread():
    """For tensors so small that threads only wait for each other: five times slower beside another job."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    """Where warmed-up base models are kept: each is made once for all files."""
    return tmp_path_factory.mktemp("base-models")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Where a check runs that has to hold on a GPU as well."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU found")
    return request.param


@pytest.fixture(scope="module")
def world():
    """A process group of this process alone, for both kinds of device."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()
