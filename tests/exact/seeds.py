"""How much of the matrix is run when."""

from __future__ import annotations

import pytest

COUNT, ALWAYS = 20, 2

SEEDS = [
    pytest.param(seed, marks=() if seed < ALWAYS else pytest.mark.slow) for seed in range(COUNT)
]
"""Seeds of the whole matrix; the first of them are run by `make test` too."""
