"""Factors and inverses against NumPy's, for sizes on both sides of every cut."""

import jax.numpy as jnp
import numpy as np
import pytest

from compression.pruning import triangular

WAYS = {  # by the device, on a CPU, on another device
    "chosen": (triangular.factor, triangular.inverse),
    "halves": (triangular._factor_by_halves, triangular._invert_by_halves),
    "library": (triangular._factor_by_library, triangular._invert_by_library),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", [1, 5, 16, 33, 150])
def test_factor_and_inverse(size, way):
    factor, inverse = WAYS[way]
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((3 * size, size))
    matrix = (rows.T @ rows / size).astype(np.float32)
    lower, solve = factor(jnp.asarray(matrix))
    np.testing.assert_allclose(lower.T @ lower, matrix, atol=2e-5)
    np.testing.assert_array_equal(lower, np.tril(lower))
    np.testing.assert_allclose(solve, np.linalg.inv(np.asarray(lower, np.float64)), atol=2e-4)
    above = np.triu(np.ones_like(matrix), 1)
    np.testing.assert_array_equal(inverse(lower + above), inverse(lower))
    stacked = inverse(jnp.stack([lower, 2 * lower]))
    np.testing.assert_allclose(stacked, [solve, solve / 2], atol=1e-5)


@pytest.mark.parametrize("way", WAYS)
def test_an_indefinite_matrix_gives_nan(way):
    assert np.isnan(WAYS[way][0](-jnp.eye(100))[0]).any()
