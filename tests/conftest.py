"""Fixtures for any test file."""

import prorl_lab.openmp  # noqa: F401  before torch, which reads once how its threads are to wait

import pytest
import torch


@pytest.fixture(scope="module")
def one_thread():
    """For tensors so small that threads only wait for each other: five times slower beside another job."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
