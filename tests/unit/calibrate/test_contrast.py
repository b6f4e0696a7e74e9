"""Contrast of channels between two texts."""

import numpy as np
import pytest
import torch

from edgeprune.calibrate.contrast import channel_contrast


def test_contrast_is_the_ratio_of_second_moments_in_the_order_kept() -> None:
    domain = torch.diag(torch.tensor([4.0, 1.0, 3.0, 0.0], dtype=torch.float64))
    general = torch.diag(torch.tensor([2.0, 5.0, 3.0, 0.0], dtype=torch.float64))
    contrast = channel_contrast(domain, general, np.array([2, 0, 3, 1]))
    assert contrast.tolist() == pytest.approx([1.0, 2.0, 1.0, 0.2])


def test_a_channel_silent_on_general_text_has_a_finite_contrast() -> None:
    moment = torch.eye(2, dtype=torch.float64)
    silent = torch.zeros(2, 2, dtype=torch.float64)
    contrast = channel_contrast(moment, silent, np.array([0, 1]))
    assert np.isfinite(contrast).all()
    assert contrast.min() > 1e6
    assert channel_contrast(silent, silent, np.array([0, 1])).tolist() == [1.0, 1.0]
