"""How does a person see that a run is alive? A bar on stderr with rate, remaining time, loss and L0; nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from unbraid.decompose.verb import Progress


@contextmanager
def live(title: str) -> Generator[Callable[[Progress], None] | None]:
    """Show a bar while the block runs and give what feeds it; give None where stderr is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        TextColumn("{task.completed:.0f}/{task.total:.0f}" if console.width >= 60 else ""),
        TextColumn("{task.fields[facts]}"),
    )
    with Bar(*columns, console=console, refresh_per_second=4) as bar:
        task = bar.add_task(title, total=1, completed=0, facts="starting …")
        first: list[tuple[int, float]] = []

        def feed(progress: Progress) -> None:
            first.append((progress.step, progress.seconds))
            del first[1:]  # the rate is counted from the first report, since a resumed run does not begin at 0
            facts = describe(progress, *first[0])
            bar.update(task, total=progress.steps, completed=progress.step, facts=facts)

        yield feed


def describe(progress: Progress, first_step: int, first_seconds: float) -> str:
    """Say rate, remaining time, loss and the total L0 in a few characters."""
    parts: list[str] = []
    seconds = progress.seconds - first_seconds
    if progress.step > first_step and seconds > 0:
        rate = (progress.step - first_step) / seconds
        left = int((progress.steps - progress.step) / rate)
        parts.append(f"{rate:,.3g}/s  {left // 3600}:{left // 60 % 60:02d}:{left % 60:02d}")
    for name, key in (("loss", "train/loss"), ("L0", "train/l0")):
        if key in progress.metrics:
            parts.append(f"{name} {progress.metrics[key]:.3g}")
    return "  ".join(parts)


@contextmanager
def watched(text: str) -> Generator[Callable[[str], None]]:
    """Say on a terminal what is being waited for, on the first of several ranks; give what tells how far it is."""
    from rich.console import Console

    from unbraid.core.ranks import current

    console = Console(stderr=True)
    if not console.is_terminal or not current().first:
        yield lambda how_far: None
        return
    with console.status(text) as status:
        yield lambda how_far: status.update(f"{text} {how_far}")


def reading(update: Callable[[str], None]) -> Callable[[int, int], None]:
    """Tell how much text was read."""
    return lambda documents, size: update(f"{documents:,} documents, {size / 1e6:,.1f} MB of text")
