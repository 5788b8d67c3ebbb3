"""Pictures of four kinds, and small models of them."""

from skdeepgmm import DeepConvGMM
from skdeepgmm.layers import Folding, Mixture, Pooling

STACK = [Folding(3), Mixture(6), Pooling(2), Folding(), Mixture(4)]
SHAPE = (6, 8)


def make(**settings):
    return DeepConvGMM(
        **{"layers": STACK, "random_state": 0, "max_iter": 20, **settings}
    )
