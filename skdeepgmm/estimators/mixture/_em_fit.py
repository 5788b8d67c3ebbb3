"""One call of ``GaussianMixture.fit``: data source, initialization, runs."""

import copy
import math
from functools import partial

import numpy as np

from skdeepgmm._torch_backend import checkpoint as trees
from skdeepgmm._torch_backend import convert
from skdeepgmm._torch_backend.data import ArraySource, balanced, default_batch_size
from skdeepgmm._torch_backend.mixture import init
from skdeepgmm._torch_backend.mixture.density import MixtureDensity
from skdeepgmm._torch_backend.mixture.e_step import row_bytes
from skdeepgmm._torch_backend.mixture.em import (
    EXACT,
    DegeneracyGuard,
    EMConfig,
    EMResult,
    fit_em,
    online_step,
)
from skdeepgmm._torch_backend.mixture.overcomplete import merged_start, samples_enough
from skdeepgmm._torch_backend.mixture.truncation import (
    Truncation,
    all_rows,
    hard_start,
)
from skdeepgmm.estimators._checkpoint import random_state_tree, set_random_state
from skdeepgmm.estimators._collection import Collection, agreed_random_state
from skdeepgmm.estimators._interruption import Interruption
from skdeepgmm.estimators._jobs import side_by_side
from skdeepgmm.estimators._verbose import VerboseReport
from skdeepgmm.estimators.mixture._init_params import (
    initial_centers,
    initial_responsibilities,
)
from skdeepgmm.estimators.mixture._validation import (
    check_means,
    check_near,
    check_precisions,
    check_reg_covar,
    check_weights,
)


class EMFit:
    """The state that the runs of one fit share.

    Parameters
    ----------
    estimator : GaussianMixture
        Gives the settings; its fitted attributes are read for a warm start and
        never written.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated data.
    data : dict
        What the callbacks get.
    sample_weight : ndarray of shape (n_samples,) or None
        Validated weights.
    stream : bool
        Whether X is the first chunk of a stream, too small for its parameters.
    checkpoint : Checkpoint or None
        Of a fit; None for a chunk, which is learned as a whole or not at all.

    Attributes
    ----------
    interruption : Interruption
    results : list of EMResult
        Of the restarts so far, for the standardised data.
    """

    def __init__(
        self,
        estimator,
        X,
        data,
        sample_weight=None,
        stream=False,
        checkpoint=None,
    ):
        self.estimator = estimator
        self.X, self.data, self.weight_given = X, data, sample_weight
        if sample_weight is not None:
            # Mean one: a common factor means nothing.
            sample_weight = sample_weight * (len(sample_weight) / sample_weight.sum())
        self.sample_weight = sample_weight
        self.covariance_class = estimator._covariance_class
        self.supplied = self._check_supplied(X.shape[1])
        self.device = estimator._device(X)
        self.source = self._make_source(X, sample_weight)
        self.standardization = self.source.standardize(self.covariance_class.isotropic)
        check_reg_covar(estimator, self.ridge(), self.source.dtype)
        self.log_scale = self.source.mean_log_scale()
        self.rows = self._rows_at_hand() if estimator._is_truncated else None
        self.prior = self.covariance_class.prior_samples(X.shape[1]) if stream else 0.0
        self.random_state = agreed_random_state(X, estimator)
        self.report = VerboseReport(
            estimator.verbose, estimator.verbose_interval, estimator.max_iter
        )
        self.checkpoint, self.results = checkpoint, []
        self.interruption = Interruption()
        # No rank can go on without the others.
        self.interruption.raises |= hasattr(X, "ranks")

    def restarts(self, n_init, fresh, tasks):
        """Run EM so often, unless a callback or Ctrl-C ends it before."""
        saved = self._resumed()
        while len(self.results) < n_init:
            result = self(len(self.results), n_init, fresh, tasks, saved)
            if result.stopped or self.interruption.happened:
                return
            if len(self.results) < n_init:
                self._save()
            saved = None

    def restarts_side_by_side(self, n_init, n_jobs):
        """Run EM so often, in several processes; Ctrl-C ends it with nothing."""
        self.interruption.raises = True
        calls = []
        for _ in range(n_init):
            guard = self._make_guard()
            result = EMResult(self._initial(guard), events=guard.events)
            calls.append(
                (self.X, self.weight_given, self.standardization)
                + (result, guard.state_dict())
            )
        self.results = side_by_side(self.estimator, n_jobs, _run_alone, calls)
        for index, result in enumerate(self.results):
            self.report.begin(index)
            self.report.end(result.last_bound - self.log_scale, result.converged)

    def use_units(self, standardization):
        """Take given units instead of the measured ones."""
        self.standardization = self.source.use_units(standardization)
        self.log_scale = self.source.mean_log_scale()

    @property
    def best(self):
        """The result of the highest last bound."""
        if not self.results:  # Ctrl-C came before EM began
            raise KeyboardInterrupt
        return max(self.results, key=lambda result: result.last_bound)

    def __call__(self, index, n_init, fresh, tasks, saved=None):
        """Run EM once, or go on where it was; adds the result to ``results``."""
        guard = self._make_guard()
        bound = -math.inf if fresh else self._earlier_bound()
        if saved is None:
            initial = self._initial(guard) if fresh else self._continue()
            initial = self.source.agreed(initial)
            result = EMResult(initial, events=guard.events)
        else:
            with self.checkpoint.reading():
                result = self._result(saved["result"])
                guard.load_state_dict(saved["guard"], result.events)
        expectation = self._expectation(result, guard, saved)
        self.report.begin(index)
        self.results.append(result)
        if n_init == 1:
            self._run(result, guard, bound, expectation, tasks)
        else:
            _, asked_to_stop = self.estimator._initialization(
                tasks,
                self.estimator.max_iter,
                self.data,
                lambda task: self._run(result, guard, bound, expectation, task),
                lambda _: self._attributes(result.mixture),
            )
            result.stopped |= asked_to_stop
        self.report.end(result.last_bound - self.log_scale, result.converged)
        return result

    def online_step(self, step):
        """Move the fitted mixture by one step of online EM.

        Returns
        -------
        mixture : MixtureDensity
            In the units of the data.
        lower_bound : float
            Mean log-density of X before the step, in nats per sample.
        """
        current = self.estimator._mixture(self.X)
        # The stream's own standardization, not that of a chunk that may be small.
        self.use_units(current.standardization())
        mixture, bound = online_step(
            current.standardized(self.standardization),
            self.source,
            self.ridge(),
            step,
            self._make_guard(),
            self.estimator.n_samples_seen_,
        )
        return mixture.unstandardized(self.standardization), bound - self.log_scale

    def _expectation(self, result, guard, saved):
        """Return the E-step: the exact one, or that among few candidates."""
        if self.rows is None:
            return EXACT
        generator = self.estimator._generator(copy.deepcopy(self.random_state))
        found = Truncation.about(
            result.mixture,
            self.rows,
            self.estimator.truncation,
            generator,
            self._tensor(self.sample_weight),
        )
        if saved is not None:
            with self.checkpoint.reading():
                found.load_state_dict(saved["truncation"])
        return found

    def _run(self, result, guard, bound, expectation, tasks):
        """Fill ``result``; Ctrl-C in a fit leaves what it has reached."""
        estimator = self.estimator

        def on_iteration(n_iter, lower_bound, mixture):
            self.report.iteration(n_iter, lower_bound - self.log_scale)
            return estimator._run_task(
                tasks, "iteration", self.data, lambda: self._attributes(mixture)
            )

        ridge = self.ridge()
        config = EMConfig(estimator.max_iter, estimator.tol, ridge, self.prior)
        settings = result.mixture, config, guard, on_iteration, bound, result
        if self.checkpoint is None:
            fit_em(self.source, *settings)
            return
        save = None
        if self.checkpoint.is_on:
            save = partial(self._save_if_due, result, guard, expectation)
        with self.interruption:
            fit_em(self.source, *settings, save, expectation=expectation)
        if self.rows is not None:
            result.gap = expectation.gap(result.mixture)

    # Checkpoints -----------------------------------------------------------------

    def _save_if_due(self, result, guard, expectation):
        if self.checkpoint.is_due(result.n_iter):
            self._save(result, guard, expectation)

    def _save(self, result=None, guard=None, expectation=None):
        """Save the finished restarts, and the one that EM is at."""
        self.checkpoint.save(lambda: self._tree(result, guard, expectation))

    def _tree(self, result, guard, expectation):
        finished = self.results if result is None else self.results[:-1]
        current = None
        if result is not None:
            current = {"result": result.state_dict(), "guard": guard.state_dict()}
            if self.rows is not None:
                current["truncation"] = expectation.state_dict()
        return {
            "random_state": random_state_tree(self.random_state),
            "finished": trees.to_arrays([each.state_dict() for each in finished]),
            "current": trees.to_arrays(current),
        }

    def _resumed(self):
        """Go on from what was saved; returns the restart that EM was at, or None."""
        saved = self.checkpoint.saved
        if saved is None:
            return None
        device = self.source.device
        with self.checkpoint.reading():
            set_random_state(self.random_state, saved["random_state"])
            finished = trees.to_tensors(saved["finished"], device)
            self.results = [self._result(state) for state in finished]
            return trees.to_tensors(saved["current"], device)

    def _result(self, state):
        result = EMResult.from_state_dict(state, self.covariance_class)
        shape = (self.estimator.n_components, self.X.shape[1])
        if tuple(result.mixture.means.shape) != shape:
            raise ValueError("its means are of another mixture")
        return result

    # Units -----------------------------------------------------------------------

    def _attributes(self, mixture):
        """Return fitted attributes of a mixture of the standardised data."""
        return mixture.unstandardized(self.standardization).to_attributes(
            self.source.dtype
        )

    def _make_source(self, X, sample_weight):
        estimator = self.estimator
        device, size = self.device, estimator.batch_size
        n_bytes = row_bytes(
            self.covariance_class,
            estimator.n_components,
            X.shape[1],
            convert.torch_dtype(X),
        )
        if isinstance(X, Collection):
            return X.source(n_bytes, size, self.sample_weight)
        if size is None:
            size = balanced(default_batch_size(n_bytes, device), X.shape[0])
        weight = self._tensor(sample_weight, device)
        return ArraySource(X, device, size, weight)

    def _rows_at_hand(self):
        """Return the standardised data, which are grouped anew in every iteration."""
        if self.source.has_missing:
            raise ValueError(
                f"truncation={self.estimator.truncation} does not take missing entries "
                "(NaN), which X has. Impute them, or set truncation=None."
            )
        return all_rows(self.source)

    def _make_guard(self, source=None):
        # A copy: scikit-learn's initialization follows from the undisturbed stream.
        random_state = copy.deepcopy(self.random_state)
        generator = self.estimator._generator(random_state)
        return DegeneracyGuard(source or self.source, generator)

    # Initialization --------------------------------------------------------------

    def _check_supplied(self, n_features):
        """Return the checked ``*_init`` parameters, None where there are none."""
        estimator, size = self.estimator, self.estimator.n_components
        weights, means, precisions = (
            getattr(estimator, f"{name}_init")
            for name in ("weights", "means", "precisions")
        )
        if weights is not None:
            weights = check_weights(weights, size, "weights_init")
        if means is not None:
            means = check_means(means, size, n_features, "means_init")
        if precisions is not None:
            precisions = check_precisions(
                precisions, self.covariance_class, size, n_features
            )
        return weights, means, precisions

    def _initial(self, guard):
        """Return the first mixture: user-supplied parameters, data for the rest."""
        weights, means, precisions = (self._tensor(value) for value in self.supplied)
        estimated = None
        if any(value is None for value in self.supplied):
            estimated = self._initial_from_data(guard)
        if means is not None:
            means = self.standardization(means)
            check_near(means)
        if precisions is not None:
            covariance = self.covariance_class.from_precisions(precisions)
            covariance = covariance.scaled(1.0 / self.standardization.scale)
        return MixtureDensity(
            estimated.weights if weights is None else weights,
            estimated.means if means is None else means,
            estimated.covariance if precisions is None else covariance,
        )

    def _initial_from_data(self, guard):
        estimator = self.estimator
        if self.rows is not None:
            return self._initial_of_thousands(guard)
        if estimator.init_params == "merge":
            return self._initial_by_merging()
        mixture, failed, nk = init.initial_mixture(
            self.covariance_class,
            self.source,
            estimator.n_components,
            self._responsibilities(
                estimator.init_params,
                estimator.n_components,
                self.X,
                self.sample_weight,
            ),
            self.ridge(),
        )
        return guard.repair_initial(mixture, failed, nk)

    def _initial_of_thousands(self, guard):
        """Return the mixture of the samples' nearest centres, found on a subset."""
        estimator, weight = self.estimator, self.sample_weight
        centers = initial_centers(
            estimator.init_params,
            self.X,
            estimator.n_components,
            self.random_state,
            weight,
        )
        mixture, failed, nk = hard_start(
            self.covariance_class,
            self.rows,
            self.standardization(self._tensor(centers)),
            self.ridge(),
            self._tensor(weight),
        )
        return guard.repair_initial(mixture, failed, nk)

    def _initial_by_merging(self):
        """Return more components than wanted, fitted for a while, then merged."""
        n_components = self.estimator.n_components
        X, sample_weight, source = self._subset(
            samples_enough(n_components, self.X.shape[1])
        )
        return merged_start(
            self.covariance_class,
            source,
            n_components,
            lambda size: self._responsibilities("merge", size, X, sample_weight),
            self.ridge(),
            lambda: self._make_guard(source),
        )

    def _subset(self, n_samples):
        """Return random samples, their weights and their source."""
        X, sample_weight = self.X, self.sample_weight
        if n_samples >= self.source.n_counted:
            return X, sample_weight, self.source
        chance = None
        if sample_weight is not None:
            chance = np.asarray(sample_weight) / sample_weight.sum()
            sample_weight = None
        index = self.random_state.choice(
            X.shape[0], size=n_samples, replace=False, p=chance
        )
        index.sort()
        X = X[index.tolist()] if convert.is_tensor(X) else X[index]
        source = self._make_source(X, sample_weight)
        source.use_units(self.standardization)
        return X, sample_weight, source

    def _responsibilities(self, init_params, n_components, X, sample_weight):
        return initial_responsibilities(
            init_params,
            X,
            n_components,
            self.random_state,
            self.standardization,
            sample_weight,
        )

    def ridge(self):
        """Return what is added to the variances of the standardised data."""
        reg_covar, scale = self.estimator.reg_covar, self.standardization.scale
        if self.estimator.reg_covar_relative:
            return scale.new_full(scale.shape, reg_covar)
        return reg_covar / scale.square()

    def _continue(self):
        """Return the last fit (warm start)."""
        return self.estimator._mixture(self.X).standardized(self.standardization)

    def _earlier_bound(self):
        return self.estimator.lower_bound_ + self.log_scale

    def _tensor(self, value, device=None):
        if value is None:
            return None
        return convert.float64_tensor(value, device or self.source.device)


def _run_alone(estimator, X, sample_weight, standardization, result, guard_state):
    """Run EM once where nothing follows it; returns the result."""
    fit = EMFit(estimator, X, {}, sample_weight)
    fit.use_units(standardization)
    guard = fit._make_guard()
    guard.load_state_dict(guard_state, result.events)
    fit._run(result, guard, -math.inf, EXACT, None)
    return result
