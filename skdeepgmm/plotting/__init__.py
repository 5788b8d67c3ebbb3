"""Displays of mixtures of images; they need the extra ``plot`` (matplotlib)."""

from skdeepgmm.plotting._components import ComponentsDisplay
from skdeepgmm.plotting._criterion import CriterionDisplay
from skdeepgmm.plotting._samples import SamplesDisplay
from skdeepgmm.plotting._training_curve import TrainingCurveDisplay

__all__ = [
    "ComponentsDisplay",
    "CriterionDisplay",
    "SamplesDisplay",
    "TrainingCurveDisplay",
]
