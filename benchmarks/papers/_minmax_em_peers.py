"""What MinMax+EM is compared with: small versions of what its paper compares with.

All networks are those of our clusterer, or as large, and see the same number of
images. The deep ones take labels of -1 for unknown; each adds a cross-entropy on known
labels to its objective, as the paper does.

References: Mukherjee et al. (2019), "ClusterGAN". Mrabah et al. (2020), "Deep
clustering with a dynamic autoencoder" (DynAE).
"""

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import LabelSpreading

from skdeepgmm import GaussianMixture
from skdeepgmm._torch_backend.clusterers import networks
from skdeepgmm._torch_backend.clusterers.minmax_em import latent
from skdeepgmm._torch_backend.clusterers.minmax_em.labelled import LabelledSampler
from skdeepgmm._torch_backend.clusterers.minmax_em.networks import Architecture
from skdeepgmm._torch_backend.clusterers.minmax_em.trainer import BETAS
from skdeepgmm._torch_backend.clusterers.weights import WeightAverage
from skdeepgmm._torch_backend.inference import in_batches
from skdeepgmm._torch_backend.rng import new_generator
from skdeepgmm.estimators.clusterers._tsne_embedding import tsne_embedding

BATCH, LABEL_BATCH, STEPS = 50, 25, 1500


class Deep:
    """A model of networks with a fixed number of steps.

    A subclass sets ``dim``, builds in ``_begin`` and trains in ``_step(index, known)``.
    """

    def __init__(self, shape, n_clusters, seed, n_steps=STEPS):
        channels = shape[2] if len(shape) == 3 else 1
        self.shape, self.n_clusters = (channels, *shape[:2]), n_clusters
        self.seed, self.n_steps = seed, n_steps

    def fit(self, X, y):
        """Train; y holds -1 where the class is unknown."""
        self.rng = new_generator(self.seed)
        self.rows, self.y = self._images(X), torch.tensor(y)
        self.labelled = LabelledSampler(self.y)
        made = Architecture(self.shape, self.n_clusters, self.dim)
        kinds = {
            "encoder": made.encoder,
            "discriminator": made.discriminator,
            # What the generator of MinMax+EM sees of its latents is no use to others.
            "generator": lambda: made.decoder(self.dim),
        }
        self.networks, self.optimizers = {}, {}
        for name in self.uses:
            gain = networks.TORCH_GAIN if name == "encoder" else networks.HE_GAIN
            network = networks.build(kinds[name], self.rng, gain=gain)
            self.networks[name] = network
            self.optimizers[name] = torch.optim.Adam(
                network.parameters(), 1e-3, BETAS[name], fused=True
            )
        self.average = WeightAverage(self.networks["encoder"], 0.99)
        for layer in self.networks["encoder"].modules():
            if isinstance(layer, networks.Dropout):
                layer.rng = self.rng
        self._begin()
        for step in range(self.n_steps):
            self.step = step
            index = torch.randint(len(self.rows), (BATCH,), generator=self.rng)
            self._step(index, self.labelled.sample(LABEL_BATCH, self.rng))
            self.average.update(self.networks["encoder"])
        return self

    def _begin(self):
        pass

    def _descend(self, loss, *names):
        for name in names:
            self.optimizers[name].zero_grad()
        loss.backward()
        for name in names:
            self.optimizers[name].step()

    def _images(self, X):
        channels, height, width = self.shape
        images = torch.tensor(np.asarray(X, dtype=np.float32)) * 2.0 - 1.0
        return images.reshape(-1, height, width, channels).permute(0, 3, 1, 2)

    def _encoded(self, X):
        return in_batches(self.average.module, self._images(X))

    def transform(self, X):
        """Return the embedding."""
        return self._encoded(X).numpy()


class LabelsOnly(Deep):
    """Our encoder and its likelihood, trained on the labelled rows alone."""

    uses = ("encoder",)

    @property
    def dim(self):
        return self.n_clusters

    def _begin(self):
        self.means = latent.component_means(self.n_clusters, self.dim, 6.0)

    def _step(self, index, known):
        known = self.labelled.sample(64, self.rng)
        rate = 0.5e-3 * (1.0 + np.cos(np.pi * self.step / self.n_steps))
        self.optimizers["encoder"].param_groups[0]["lr"] = rate
        resp = F.one_hot(self.y[known], self.n_clusters).float()
        found = self.networks["encoder"](self.rows[known])
        self._descend(latent.expected_energy(found, self.means, resp), "encoder")

    def predict(self, X):
        """Return the classes of the nearest means."""
        distances = latent.square_distances(self._encoded(X), self.means)
        return distances.argmin(1).numpy()


class ClusterGAN(Deep):
    """A generator of one-hot cluster and noise, an encoder that finds both again."""

    uses = ("encoder", "generator", "discriminator")
    n_noise, noise_scale, code_weight = 10, 0.1, 10.0

    @property
    def dim(self):
        return self.n_clusters + self.n_noise

    def _step(self, index, known):
        encoder, made, critic = (self.networks[name] for name in self.uses)
        labels = torch.randint(self.n_clusters, (BATCH,), generator=self.rng)
        noise = torch.randn(BATCH, self.n_noise, generator=self.rng) * self.noise_scale
        one_hot = F.one_hot(labels, self.n_clusters).float()
        images = made(torch.cat([one_hot, noise], 1))
        real, fake = critic(self.rows[index]), critic(images.detach())
        self._descend(F.relu(1 - real).mean() + F.relu(1 + fake).mean(), self.uses[2])
        found = encoder(torch.cat([images, self.rows[known]]))
        codes = found[:BATCH]
        loss = -critic(images).mean()
        loss = loss + self.code_weight * F.mse_loss(codes[:, self.n_clusters :], noise)
        loss = loss + F.cross_entropy(codes[:, : self.n_clusters], labels)
        if len(known):
            known_codes = found[BATCH:, : self.n_clusters]
            loss = loss + F.cross_entropy(known_codes, self.y[known])
        self._descend(loss, "encoder", "generator")

    def predict(self, X):
        """Return the cluster of the largest code."""
        return self._encoded(X)[:, : self.n_clusters].argmax(1).numpy()


class DynAE(Deep):
    """An autoencoder whose target turns from the image to that of its centre.

    Half of the steps reconstruct. Then rows that are clearly nearest to one centre are
    to be reconstructed as the centre's image, the others still as themselves; every 100
    steps the centres follow and more rows count as clear.
    """

    uses = ("encoder", "generator")
    dim = 10
    clear_margin = 0.3

    def _begin(self):
        self.centers = None

    def _step(self, index, known):
        encoder, decoder = self.networks["encoder"], self.networks["generator"]
        clustering = self.step >= self.n_steps // 2
        if clustering and (self.centers is None or self.step % 100 == 0):
            self._move_centers()
        rows = self.rows[index]
        z = encoder(torch.cat([rows, self.rows[known]]))
        target = self._targets(rows, z[:BATCH].detach()) if clustering else rows
        loss = F.mse_loss(decoder(z[:BATCH]), target)
        if len(known) and clustering:
            nearness = -torch.cdist(z[BATCH:], self.centers)
            loss = loss + F.cross_entropy(nearness, self.y[known])
        self._descend(loss, "encoder", "generator")

    def _move_centers(self):
        z = in_batches(self.average.module, self.rows)
        if self.centers is None:
            self.centers = self._first_centers(z)
            return
        nearest = torch.cdist(z, self.centers).argmin(1)
        nearest = torch.where(self.y >= 0, self.y, nearest)
        for k in range(self.n_clusters):
            if (nearest == k).any():
                self.centers[k] = z[nearest == k].mean(0)
        self.clear_margin *= 0.9

    def _first_centers(self, z):
        known = self.y >= 0
        if len(torch.unique(self.y[known])) == self.n_clusters:
            start = [z[self.y == k].mean(0) for k in range(self.n_clusters)]
            return torch.stack(start)
        kmeans = KMeans(self.n_clusters, n_init=10, random_state=self.seed)
        return torch.tensor(kmeans.fit(z.numpy()).cluster_centers_)

    def _targets(self, rows, z):
        nearness = 1.0 / (1.0 + torch.cdist(z, self.centers).square())
        shares, order = (nearness / nearness.sum(1, True)).sort(1, descending=True)
        clear = shares[:, 0] - shares[:, 1] > self.clear_margin
        decoder = self.networks["generator"].eval()
        with torch.no_grad():
            centers = decoder(self.centers)
        decoder.train()
        return torch.where(clear[:, None, None, None], centers[order[:, 0]], rows)

    def predict(self, X):
        """Return the nearest centre."""
        return torch.cdist(self._encoded(X), self.centers).argmin(1).numpy()


class EmbeddingMixture:
    """A mixture of one Gaussian a cluster on the t-SNE embedding of our clusterer.

    It has no rule for new rows: it predicts those that it was fitted to.
    """

    def __init__(self, n_clusters, seed):
        self.n_clusters, self.seed = n_clusters, seed

    def fit(self, X):
        random_state = np.random.RandomState(self.seed)
        resp = tsne_embedding(X, random_state).mixture(self.n_clusters)
        self.labels_ = resp.argmax(axis=1)
        return self

    def predict(self, X):
        """Return the clusters of the rows of ``fit``, in their order."""
        assert len(X) == len(self.labels_)
        return self.labels_


def peers(shape, n_clusters, seed, labelled, n_steps=STEPS):
    """Return {name: model} for data with or without labels."""
    deep = {"ClusterGAN": ClusterGAN, "DynAE": DynAE}
    if labelled:
        deep = {"labels only": LabelsOnly, **deep}
    found = {
        name: kind(shape, n_clusters, seed, n_steps) for name, kind in deep.items()
    }
    if labelled:
        spreading = LabelSpreading(kernel="knn", n_neighbors=7)
        found["LabelSpreading"] = make_pipeline(PCA(50, random_state=seed), spreading)
        return found
    flat = GaussianMixture(n_clusters, n_init=5, random_state=seed, reg_covar=1e-4)
    return found | {
        "KMeans": KMeans(n_clusters, n_init=10, random_state=seed),
        "GaussianMixture on PCA": make_pipeline(PCA(50, random_state=seed), flat),
        "GaussianMixture on t-SNE": EmbeddingMixture(n_clusters, seed),
    }
