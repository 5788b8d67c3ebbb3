"""Over-clustering components put together to clusters, by their normalised cut.

References: Shi and Malik (2000), "Normalized cuts and image segmentation", IEEE TPAMI
22(8).
"""

import numpy as np
from scipy.special import xlogy

#: Weight of the clusters' imbalance in the cost. A normalised cut alone splits a
#: small island off sooner than two large clusters that touch.
BALANCE = 2.0
#: Random initial assignments beside the one by merging.
N_RANDOM = 10
#: Less than this lowers no cost.
LEAST_GAIN = 1e-12


def merged_components(affinity, n_clusters, random_state):
    """Return the cluster of each component of a graph.

    The cost of an assignment is, with the affinity within a cluster ``a_k``, all
    affinity of its components ``v_k`` and its share ``s_k = v_k / sum(v)``,
    ``sum_k 1 - a_k / v_k + BALANCE s_k log(s_k n_clusters)``. Pairs of clusters
    are merged at the least cost until ``n_clusters`` are left; then, and from random
    assignments, single components move for as long as that lowers the cost.

    Parameters
    ----------
    affinity : ndarray of shape (n_components, n_components)
        Symmetric and non-negative; the diagonal is the affinity within a component.
    n_clusters : int
        At most ``n_components``.
    random_state : RandomState instance

    Returns
    -------
    ndarray of shape (n_components,)
        The best assignment found, of clusters that all have a component.
    """
    initial = [_merged(affinity, n_clusters)]
    for _ in range(N_RANDOM):
        drawn = random_state.randint(n_clusters, size=len(affinity))
        # Every cluster has a component.
        drawn[random_state.permutation(len(affinity))[:n_clusters]] = np.arange(
            n_clusters
        )
        initial.append(drawn)
    found = [_improved(affinity, clusters, n_clusters) for clusters in initial]
    return min(found, key=lambda clusters: cut_cost(affinity, clusters, n_clusters))


def cut_cost(affinity, clusters, n_clusters):
    """Return the cost of an assignment."""
    members = np.eye(n_clusters)[clusters]
    within = np.einsum("ik,ij,jk->k", members, affinity, members)
    return _costs(within, members.T @ affinity.sum(axis=1), affinity, n_clusters).sum()


def _costs(within, volume, affinity, n_clusters):
    """Return what clusters with these affinities add to the cost."""
    share = volume / affinity.sum()
    kept = np.divide(within, volume, out=np.zeros(volume.shape), where=volume > 0.0)
    return 1.0 - kept + BALANCE * xlogy(share, share * n_clusters)


def _merged(affinity, n_clusters):
    """Merge the pair of least cost until ``n_clusters`` are left."""
    clusters = np.arange(len(affinity))
    links = affinity.copy()
    while (size := len(links)) > n_clusters:
        volume, within = links.sum(axis=1), np.diag(links)
        alone = _costs(within, volume, affinity, size - 1)
        both = _costs(
            within[:, None] + within + 2.0 * links,
            volume[:, None] + volume,
            affinity,
            size - 1,
        )
        change = both - alone[:, None] - alone
        change[np.tril_indices(size)] = np.inf
        first, second = np.unravel_index(change.argmin(), change.shape)
        links[first] += links[second]
        links[:, first] += links[:, second]
        links = np.delete(np.delete(links, second, 0), second, 1)
        clusters[clusters == second] = first
        clusters[clusters > second] -= 1
    return clusters


def _improved(affinity, clusters, n_clusters):
    """Move the component that lowers the cost most until none does."""
    degree, own = affinity.sum(axis=1), np.diag(affinity)
    components, cost, kept = np.arange(len(affinity)), np.inf, clusters
    while True:
        members = np.eye(n_clusters)[clusters]
        links = affinity @ members
        within, volume = (members * links).sum(axis=0), members.T @ degree
        now = _costs(within, volume, affinity, n_clusters)
        # Computed again: differences of tiny clusters are rounding alone.
        if not now.sum() < cost - LEAST_GAIN:
            return kept
        cost, kept = now.sum(), clusters
        left = _costs(
            within[clusters] - 2.0 * links[components, clusters] + own,
            volume[clusters] - degree,
            affinity,
            n_clusters,
        )
        joined = _costs(
            within + 2.0 * links + own[:, None],
            volume + degree[:, None],
            affinity,
            n_clusters,
        )
        change = (left - now[clusters])[:, None] + joined - now
        change[components, clusters] = np.inf
        # The last component of a cluster stays.
        change[np.bincount(clusters, minlength=n_clusters)[clusters] == 1] = np.inf
        component, cluster = np.unravel_index(change.argmin(), change.shape)
        if change[component, cluster] == np.inf:
            return kept
        clusters = clusters.copy()
        clusters[component] = cluster
