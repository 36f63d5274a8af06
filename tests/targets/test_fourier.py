from __future__ import annotations

import math

import torch

from unbraid.targets.toy_kit.fourier import coefficients, embedding_shares, of_sum, variance_shares, waves

P = 11
NUMBER = torch.arange(P)


def test_waves_are_orthonormal_over_the_numbers() -> None:
    assert waves(P).shape == (5, P, 2)
    columns = waves(P).permute(0, 2, 1).flatten(0, 1)
    torch.testing.assert_close(columns @ columns.T, torch.eye(10), rtol=0, atol=1e-5)


def test_products_of_two_waves_belong_to_their_frequency() -> None:
    angle = 2 * math.pi * 3 * NUMBER / P
    product = (angle.cos()[:, None] * angle.sin())[..., None]
    mixed = (angle.cos()[:, None] + (2 * math.pi * 2 * NUMBER / P).cos())[..., None]
    shares = variance_shares(torch.cat([product, mixed], dim=-1))
    torch.testing.assert_close(shares[:, 0], torch.eye(5)[2], rtol=0, atol=1e-5)
    torch.testing.assert_close(shares[:, 1], torch.tensor([0, 0.5, 0.5, 0, 0]), rtol=0, atol=1e-5)


def test_coefficients_of_noise_keep_the_variance_of_each_frequency() -> None:
    values = torch.randn(P, P, 2, generator=torch.Generator().manual_seed(0))
    assert coefficients(values).shape == (5, 8, 2)
    assert bool((variance_shares(values).sum(0) < 1).all())


def test_embedding_of_one_wave_has_one_frequency() -> None:
    embedding = waves(P)[1] @ torch.randn(2, 6, generator=torch.Generator().manual_seed(0)) + 3
    torch.testing.assert_close(embedding_shares(embedding), torch.eye(5)[1], rtol=0, atol=1e-5)


def test_waves_of_the_sum_are_kept_and_nothing_else() -> None:
    angle = 2 * math.pi * 4 / P * (NUMBER[:, None, None] + NUMBER[:, None] - NUMBER)
    of_difference = (2 * math.pi * 4 / P * (NUMBER[:, None, None] - NUMBER[:, None] + 0 * NUMBER)).cos()
    torch.testing.assert_close(of_sum(angle.cos() + of_difference, [4]), angle.cos(), rtol=0, atol=1e-5)
    torch.testing.assert_close(of_sum(angle.cos(), [2]), torch.zeros(P, P, P), rtol=0, atol=1e-5)
