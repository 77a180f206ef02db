"""Factors and inverses against NumPy's, for sizes on both sides of every cut."""

import jax.numpy as jnp
import numpy as np
import pytest

from compression.pruning import triangular


@pytest.mark.parametrize("size", [1, 5, 16, 33, 150])
def test_factor_and_inverse(size):
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((3 * size, size))
    matrix = (rows.T @ rows / size).astype(np.float32)
    lower, solve = triangular.factor(jnp.asarray(matrix))
    np.testing.assert_allclose(lower.T @ lower, matrix, atol=2e-5)
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(solve, np.linalg.inv(np.asarray(lower, np.float64)), atol=2e-4)
    above = np.triu(np.ones_like(matrix), 1)
    np.testing.assert_array_equal(triangular.inverse(lower + above), triangular.inverse(lower))


def test_an_indefinite_matrix_gives_nan():
    assert np.isnan(triangular.factor(-jnp.eye(100))[0]).any()
