"""What tests of several rooms need."""

import pytest
import torch


@pytest.fixture
def float64(monkeypatch):
    """Networks, batches, heads and losses in float64; these are told to use float32, which is taken for it."""
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
