"""Which options of a group are left out."""

import numpy as np

from edgeprune.search.dominance import undominated


def test_what_is_beaten_in_everything_goes_and_the_rest_stays_in_order() -> None:
    keys = np.array([[3.0, 1.0], [2.0, 2.0], [2.0, 3.0], [1.0, 4.0], [3.0, 4.0]])
    assert undominated(keys) == [0, 1, 3]


def test_of_equal_options_the_first_stays() -> None:
    assert undominated(np.array([[1.0, 1.0], [1.0, 1.0], [0.5, 2.0], [1.0, 1.0]])) == [0, 2]


def test_it_keeps_what_one_by_one_comparison_keeps() -> None:
    rng = np.random.default_rng(0)
    # Few are compared all at once, many block by block.
    for count, values in [(40, 5)] * 20 + [(300, 9)]:
        keys = rng.integers(0, values, size=(count, 3)).astype(float)
        expected = []
        for index, row in enumerate(keys):
            beaten = [
                np.all(other <= row) and (bool(np.any(other < row)) or position < index)
                for position, other in enumerate(keys)
                if position != index
            ]
            if not any(beaten):
                expected.append(index)
        assert undominated(keys) == expected


def test_an_empty_group_and_a_single_option_stay_as_they_are() -> None:
    assert undominated(np.zeros((0, 3))) == []
    assert undominated(np.ones((1, 3))) == [0]
