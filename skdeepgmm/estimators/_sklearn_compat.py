"""Private names of scikit-learn that the estimators use, imported here alone."""

from sklearn.base import _fit_context
from sklearn.utils import _safe_indexing
from sklearn.utils._array_api import _convert_to_numpy, get_namespace
from sklearn.utils._param_validation import (
    Interval,
    InvalidParameterError,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.validation import (
    _check_feature_names,
    _check_n_features,
    _check_sample_weight,
)

__all__ = [
    "Interval",
    "InvalidParameterError",
    "StrOptions",
    "_check_feature_names",
    "_check_n_features",
    "_check_sample_weight",
    "_convert_to_numpy",
    "_fit_context",
    "_get_output_config",
    "_safe_indexing",
    "get_namespace",
    "validate_parameter_constraints",
]
