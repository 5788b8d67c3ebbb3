"""The recipes of the page "Scaling out" do what they say."""

import sys
from functools import partial

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_backend
from sklearn.model_selection import GridSearchCV

from skdeepgmm import ChunkedArray, GaussianMixture


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = np.repeat([[0.0, 0.0], [8.0, 8.0]], 60, axis=0) + rng.normal(size=(120, 2))
    return pd.DataFrame(rng.permutation(X), columns=["a", "b"])


def test_a_table_is_scored_part_by_part(table):
    """The function that Spark's mapInPandas calls with an iterator of data frames."""
    gm = GaussianMixture(2, random_state=0).fit(table.to_numpy())

    def score(frames):
        for frame in frames:
            X = frame[["a", "b"]].to_numpy()
            yield frame.assign(label=gm.predict(X), log_prob=gm.score_samples(X))

    scored = pd.concat(score(iter([table[:50], table[50:50], table[50:]][::2])))
    np.testing.assert_array_equal(scored["label"], gm.predict(table.to_numpy()))
    np.testing.assert_allclose(
        scored["log_prob"], gm.score_samples(table.to_numpy()), rtol=1e-12
    )


def test_a_search_by_dask(table):
    distributed = pytest.importorskip("distributed")
    grid = {"n_components": [1, 2]}
    search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=2)
    expected = search.fit(table.to_numpy()).cv_results_["mean_test_score"]
    with (
        distributed.Client(processes=False, n_workers=1, dashboard_address=None),
        parallel_backend("dask"),
    ):
        found = search.fit(table.to_numpy())
    assert found.best_params_ == {"n_components": 2}
    np.testing.assert_allclose(found.cv_results_["mean_test_score"], expected)


@pytest.mark.slow
def test_a_table_of_spark(table, tmp_path, monkeypatch):
    """Fit the files that Spark has written; score the table where it is."""
    sql = pytest.importorskip("pyspark.sql")
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    builder = sql.SparkSession.builder.master("local[1]")
    session = builder.config("spark.ui.enabled", "false").getOrCreate()
    try:
        spark_table = session.createDataFrame(table)
        spark_table.repartition(3).write.parquet(str(tmp_path / "table"))
        parts = [partial(pd.read_parquet, p) for p in tmp_path.glob("table/*.parquet")]
        loaders = [lambda part=part: part().to_numpy() for part in parts]
        gm = GaussianMixture(2, random_state=0).fit(ChunkedArray(loaders))
        np.testing.assert_allclose(np.sort(gm.means_[:, 0]), [0.0, 8.0], atol=0.5)

        def score(frames):
            for frame in frames:
                X = frame[["a", "b"]].to_numpy()
                yield frame.assign(label=gm.predict(X), log_prob=gm.score_samples(X))

        columns = "a double, b double, label long, log_prob double"
        scored = spark_table.mapInPandas(score, columns).toPandas()
    finally:
        session.stop()
    X = scored[["a", "b"]].to_numpy()
    np.testing.assert_array_equal(scored["label"], gm.predict(X))
    np.testing.assert_allclose(scored["log_prob"], gm.score_samples(X), rtol=1e-9)
