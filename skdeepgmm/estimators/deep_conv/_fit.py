"""One call of ``DeepConvGMM.fit`` or ``partial_fit``: network, schedules, run."""

from functools import partial

from skdeepgmm._torch_backend import annealing, convert
from skdeepgmm._torch_backend.deep_conv import inference
from skdeepgmm._torch_backend.deep_conv.network import Learner
from skdeepgmm._torch_backend.deep_conv.schedules import run_plans, stream_plans
from skdeepgmm._torch_backend.rows import TrainingRows
from skdeepgmm.estimators._epoch_fit import EpochFit, default_batch_size

#: The largest default batch.
LARGEST_BATCH = 200


def batch_size_of(estimator, n_samples):
    """Return the images a step."""
    return estimator.batch_size or default_batch_size(n_samples, 1, LARGEST_BATCH)


class DeepConvFit(EpochFit):
    """What one fit needs in addition to the estimator's settings.

    Parameters
    ----------
    estimator : DeepConvGMM
        Gives the settings; its fitted attributes are read only where the fit goes on.
    X : ndarray or tensor of shape (n_samples, n_features)
        Validated rows.
    spec : ModelSpec
        Layers, image shape, standardization and variance floors.
    data : dict
        What the callbacks get.
    sample_weight : ndarray of shape (n_samples,) or None
    checkpoint : Checkpoint or None
    ranks : Ranks or None
        Processes that fit together, each on images of its own.
    """

    def __init__(
        self,
        estimator,
        X,
        spec,
        data,
        sample_weight=None,
        checkpoint=None,
        ranks=None,
    ):
        self.sizes = [layer.n_components for layer in spec.mixtures]
        top = len(self.sizes) - 1
        super().__init__(
            *(estimator, data, self.sizes[top], f"log_likelihood_{top}"),
            *(checkpoint, ranks),
        )
        self.spec = spec
        self.device = estimator._device(X)
        self.rows = TrainingRows(
            *(X, spec.standardization, self.device, spec.dtype, spec.shape),
            sample_weight=sample_weight,
            skip_weightless=True,
            ranks=ranks,
        )
        everything = self.rows.n_batches(convert.index_tensor(range(len(self.rows))), 1)
        self.batch_size = batch_size_of(estimator, everything)
        self.log_volume = spec.log_volume()
        self.score_layer = range(len(self.sizes))[estimator.score_layer]

    def __call__(self, tasks):
        """Train for ``max_iter`` epochs; returns (learner, TrainingState)."""
        self.generator = self.estimator._generator(self.random_state)
        self.report.begin(0)
        return self.run(tasks)

    def new_model(self, total_steps):
        """Return the learner of a run with so many steps."""
        estimator = self.estimator
        annealed = estimator.annealing != "none"
        plans = run_plans(
            *(self.sizes, estimator.learning_rate, total_steps),
            estimator.annealing_fraction if annealed else None,
        )
        return self._learner(plans, fresh=True)

    def stream_model(self, fresh, opened, reopened):
        """Return the learner of a stream whose annealing began at step ``opened``."""
        lr = self.estimator.learning_rate
        plans = stream_plans(self.sizes, lr, opened, reopened)
        return self._learner(plans, fresh)

    def _learner(self, plans, fresh):
        """Return a new network, or the fitted one, ready to learn."""
        if fresh:
            network = self.spec.build(self.generator)
            for mixture in network.mixtures:
                mixture.to(self.device)
        else:
            network = self.spec.restore(self.estimator.mixtures_, self.device)
        objective = annealing.objective(self.estimator.annealing)
        initialized = [not fresh] * len(plans)
        return Learner(
            *(network, plans, self.generator, objective, initialized),
            ranks=self.ranks,
        )

    def one_pass(self, model):
        """Train on all images once; a top that still waits is scored as it is."""
        state = super().one_pass(model)
        if self.bound_name not in state.history[-1]:
            size, top = self.spec.batch_size, len(self.sizes) - 1
            score = inference.mean_score(
                model.network, self.rows, self.rows.usable(), size, top
            )
            state.history[-1][self.bound_name] = float(score)
        return state

    def _held_out_score(self, model, index):
        size, layer = self.spec.batch_size, self.estimator.score_layer
        return partial(
            inference.mean_score, model.network, self.rows, index, size, layer
        )

    def responsibilities(self, model, index):
        """Return those of the top mixture for the samples at ``index``, as an array."""
        size = self.spec.batch_size
        parts = self.rows.split(size, convert.index_tensor(index))
        return convert.to_numpy(inference.responsibilities(model.network, parts, size))

    @property
    def components_text(self):
        return f"the {self.n_components} components of the top mixture"

    def attributes(self, model):
        """Return what a learner has reached as fitted attributes."""
        return self.spec.attributes(model.network)

    def _log_volume(self, name):
        number = self.score_layer if name == "score" else int(name.rsplit("_", 1)[1])
        # Only the first mixture's is a density of pixels.
        return self.log_volume if number == 0 else 0.0

    def _loss_names(self, losses):
        """Return the losses of all mixtures: NaN before one learns.

        Its first epoch is averaged from where it began.
        """
        names = [
            f"{name}_{number}"
            for number in range(len(self.sizes))
            for name in ("loss", "log_likelihood")
        ]
        return names + ["score"] * ("score" in losses)
