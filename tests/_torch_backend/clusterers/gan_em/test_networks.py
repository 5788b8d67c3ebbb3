"""Networks of GAN-EM: the paper's sizes, the embedding."""

import pytest
import torch

from skdeepgmm._torch_backend.clusterers.gan_em.networks import TABLES, Architecture

SHAPES = {"mnist": (1, 28, 28), "svhn": (3, 32, 32), "celeba": (3, 64, 64)}


@pytest.mark.parametrize("table", list(TABLES))
def test_the_papers_networks_make_their_images(table):
    shape = SHAPES[table]
    made = Architecture(shape, 10, 62, table=table)
    with torch.device("meta"):
        images = made.generator()(torch.rand(2, 62), torch.zeros(2, dtype=torch.int64))
        assert images.shape == (2, *shape)
        assert made.discriminator()(images).shape == (2, 11)
        assert made.classifier()(images).shape == (2, 10)


def test_paper_sized_mnist_networks_have_the_papers_parameters():
    made = Architecture((1, 28, 28), 10, 62, table="mnist", classifier_norm="none")
    with torch.device("meta"):
        classifier = made.classifier()
        sizes = [p.numel() for n, p in classifier.named_parameters() if "weight" in n]
    assert sizes == [64 * 16, 64 * 128 * 16, 128 * 256 * 16, 256 * 9 * 1024, 10240]


def test_embedding_is_the_layer_before_the_output():
    made = Architecture((1, 8, 8), 3, 4, embedding_dim=2, width=0.1)
    with torch.device("meta"):
        classifier = made.classifier()
        images = torch.rand(5, 1, 8, 8)
        assert classifier.embed(images).shape == (5, 2)
        assert classifier.head.in_features == 2
