"""Contrastive features: the loss, and what is learned without labels."""

import torch

from skdeepgmm._torch_backend.clusterers.image_changes import ImageChanges
from skdeepgmm._torch_backend.clusterers.self_supervised import (
    ContrastiveTrainer,
    contrastive_loss,
)
from skdeepgmm._torch_backend.rng import new_generator


def test_loss_is_the_cross_entropy_of_the_other_copy():
    values = torch.randn(6, 4, generator=new_generator(0), dtype=torch.float64)
    unit = values / values.norm(dim=1, keepdim=True)
    expected = 0.0
    for i in range(6):
        weight = torch.exp(unit @ unit[i] / 0.5)
        weight[i] = 0.0
        expected -= torch.log(weight[(i + 3) % 6] / weight.sum()) / 6.0
    torch.testing.assert_close(contrastive_loss(values, 0.5), expected)


def test_copies_become_more_alike_than_others():
    rows = torch.rand(64, 1, 16, 16, generator=new_generator(0))
    change = ImageChanges(shift=0.1, contrast=0.2)
    model = ContrastiveTrainer(rows, change, 30, 0)
    first = model.do_step()
    model.fit()
    again = ContrastiveTrainer(rows, change, 30, 0)
    assert torch.equal(first, again.do_step())
    with torch.no_grad():
        both = torch.cat([change(rows, new_generator(seed)) for seed in (1, 2)])
        learned, fresh = (
            contrastive_loss(net(both), 0.2)
            for net in (model.average.module, again.average.module)
        )
    assert learned < 0.8 * fresh
    assert model.features().shape == (64, 128)
