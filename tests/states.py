"""Compare the states of optimizers."""

import numpy as np


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        if isinstance(value, dict):
            assert_same(value, theirs[key])
        else:
            np.testing.assert_array_equal(value, theirs[key], err_msg=key)
