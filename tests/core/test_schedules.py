from __future__ import annotations

import pytest

from unbraid.core.schedules import cosine, linear


@pytest.mark.parametrize(("progress", "value"), [(0.0, 1.0), (0.45, 0.505), (0.9, 0.01), (1.0, 0.01)])
def test_linear(progress: float, value: float) -> None:
    assert linear(progress, 1.0, 0.01, until=0.9) == pytest.approx(value)


@pytest.mark.parametrize(("progress", "value"), [(0.0, 1.0), (0.5, 0.55), (1.0, 0.1)])
def test_cosine_falls_to_its_final_share(progress: float, value: float) -> None:
    assert cosine(progress, final_share=0.1) == pytest.approx(value)


def test_cosine_warms_up_first() -> None:
    assert cosine(0.0, warmup_share=0.2) == 0
    assert cosine(0.1, warmup_share=0.2) == pytest.approx(0.5)
    assert cosine(0.2, warmup_share=0.2) == pytest.approx(1.0)
    assert cosine(0.6, warmup_share=0.2) == pytest.approx(0.5)
