"""Displays of models, their samples and their fits; need the extra ``plot``."""

from skdeepgmm.plotting._components import ComponentsDisplay
from skdeepgmm.plotting._criterion import CriterionDisplay
from skdeepgmm.plotting._denoising import DenoisingDisplay
from skdeepgmm.plotting._density import DensityDisplay, DensityPanel
from skdeepgmm.plotting._interpolation import InterpolationDisplay
from skdeepgmm.plotting._latent_space import LatentSpaceDisplay
from skdeepgmm.plotting._layers import LayersDisplay
from skdeepgmm.plotting._matched_confusion import MatchedConfusionDisplay
from skdeepgmm.plotting._outlier_scores import OutlierScoresDisplay
from skdeepgmm.plotting._samples import SamplesDisplay
from skdeepgmm.plotting._training_curve import TrainingCurveDisplay

__all__ = [
    "TrainingCurveDisplay",
    "CriterionDisplay",
    "DensityDisplay",
    "DensityPanel",
    "ComponentsDisplay",
    "SamplesDisplay",
    "LayersDisplay",
    "LatentSpaceDisplay",
    "InterpolationDisplay",
    "MatchedConfusionDisplay",
    "OutlierScoresDisplay",
    "DenoisingDisplay",
]
