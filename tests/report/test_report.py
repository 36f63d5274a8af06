from __future__ import annotations

import html
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from unbraid.components.scorecard import Judged
from unbraid.decompose.result import Decomposition
from unbraid.decompose.scorecard import Scorecard
from unbraid.report.card import escape, markdown_table
from unbraid.report.content import Cell, Group, Table, interval, number
from unbraid.report.decomposition import decomposition_page
from unbraid.report.html import render
from unbraid.report.words import FIGURES
from unbraid.report.write import write_report

Run = tuple[Decomposition, Scorecard]


class Links(HTMLParser):
    """Collects whatever a page points at, and checks that its tags are closed."""

    VOID = frozenset({"meta", "br", "hr", "img", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.targets += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset", "action")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(path: Path) -> tuple[str, Links]:
    text = path.read_text(encoding="utf-8")
    links = Links()
    links.feed(text)
    assert links.open == []
    return text, links


def test_the_page_fetches_nothing(either: tuple[Path, Scorecard]) -> None:
    text, links = parsed(either[0] / "report.html")
    assert links.targets
    assert all(target.startswith(("#", "data:")) for target in links.targets)
    assert not {"link", "img", "iframe", "object", "embed"} & set(links.tags)
    assert links.tags.count("script") == 1
    assert not re.search(r"@import|url\(\s*['\"]?\s*http", text)
    assert {match for match in re.findall(r"https?://[^\s\"'<]+", text)} <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}


def test_the_page_may_show_the_pictures_inside_its_figures(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    assert "default-src 'none'" in policy[1] and "img-src data:;" in policy[1]


def test_ids_are_unique_and_every_inner_link_has_its_place(folder: Path) -> None:
    text, links = parsed(folder / "report.html")
    assert len(links.ids) == len(set(links.ids))
    wanted = {target[1:] for target in links.targets if target.startswith("#")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert wanted <= set(links.ids)


def test_the_page_holds_every_line(either: tuple[Path, Scorecard]) -> None:
    folder, scorecard = either
    text = html.unescape((folder / "report.html").read_text(encoding="utf-8"))
    for line in scorecard.lines:
        row = next(row for row in re.findall(r"<tr>(.*?)</tr>", text) if f'title="{line.key}">{line.title}' in row)
        assert f">{number(line.value.value)}<" in row
        assert f">{interval(line.value.low, line.value.high)}<" in row or line.value.low == line.value.high
        if line.value.n > 1:
            assert f"n = {line.value.n}<" in row
        assert line.bar is None or line.bar.why in row
        assert all(f">{number(value)}</td>" in row for value in line.nulls.values())
    assert all(sentence in text for sentence in scorecard.verdict())


def test_the_badge_counts(folder: Path, run: Run) -> None:
    scorecard = run[1]
    barred = sum(line.bar is not None for line in scorecard.lines)
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert f"{barred - len(scorecard.failures)} of {barred} lines pass" in text
    assert ('class="badge good"' in text) == scorecard.passed


def test_a_hostile_name_stays_text(untold_folder: Path, untold: Run) -> None:
    name = untold[0].target.name
    text = (untold_folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert f"<h1>{html.escape(name).replace('&quot;', '&#34;')}</h1>" in text
    card = (untold_folder / "README.md").read_text(encoding="utf-8")
    assert "<script" not in card and "\n# " + escape(name) in card


def test_without_a_truth_there_is_what_can_be_shown(untold_folder: Path) -> None:
    text = (untold_folder / "report.html").read_text(encoding="utf-8")
    shown = {name for name in FIGURES if f'id="figure-{name}"' in text}
    assert shown == {"scorecard", "importance", "spectrum", "ladder"}
    assert "planted truth</th>" not in text
    assert "from_pretrained(&#34;.&#34;, target=target)" in text


def test_every_figure_has_both_themes_and_its_numbers(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    shown = FIGURES.keys() - {"modules", "cross_talk", "calibration"}  # this toy has no planted modules
    for name in shown:
        assert f'id="figure-{name}"' in text
        assert (folder / "figures" / f"{name}.svg").read_text() != (folder / "figures" / f"{name}-dark.svg").read_text()
        json.loads((folder / "figures" / f"{name}.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert text.count('role="img" aria-label="') == 2 * len(shown)


def test_the_same_run_gives_the_same_files(untold_folder: Path, untold: Run, tmp_path: Path) -> None:
    write_report(tmp_path, untold[0], Judged(untold[1]))
    files = sorted(path.relative_to(untold_folder) for path in untold_folder.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert [path for path in files if (untold_folder / path).read_bytes() != (tmp_path / path).read_bytes()] == []


def test_environment_and_cost_are_told(run: Run) -> None:
    cost = {"cpu_seconds": 12.345, "peak_memory_mb": 321.0, "steps": 30}
    environment = {"python": "3.11.7", "device": "cpu", "versions": {"unbraid": None}, "cost": cost}
    text = render(decomposition_page(*run, {}, environment))
    assert "<dd>12.3 CPU s</dd>" in text and "<dd>321 MB</dd>" in text
    assert '<td class="">versions: unbraid</td><td class="">not known</td>' in text


def test_the_card_has_the_table(folder: Path, run: Run) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    scorecard = run[1]
    assert len(rows) == 2 + len(scorecard.lines) + len({line.group for line in scorecard.lines})
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    for line in scorecard.lines:
        assert any(f"| {escape(line.title)} | {number(line.value.value)} |" in row for row in rows)
    assert 'unbraid.Decomposition.from_pretrained(".")' in text
    assert all(escape(sentence) in text for sentence in scorecard.verdict())


def test_the_scorecard_is_kept_as_numbers(folder: Path, run: Run) -> None:
    assert json.loads((folder / "scorecard.json").read_text(encoding="utf-8")) == json.loads(json.dumps(run[1].tree()))


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (0.0, "0"), (3.0, "3"), (0.99996, "1.00"), (0.052, "0.0520"), (-0.5, "−0.500"), (1.349e-4, "1.35 × 10⁻⁴"), (155.4, "155"),
     (12345.6, "12,346"), (2e9, "2.00 × 10⁹"), (float("inf"), "inf")],
)  # fmt: skip
def test_numbers_are_written_for_reading(value: float | None, text: str) -> None:
    assert number(value) == text


def test_an_interval_writes_a_shared_power_once() -> None:
    assert interval(1.3e-4, 1.4e-4) == "1.30 – 1.40 × 10⁻⁴"
    assert interval(9e-5, 1.4e-4) == "9.00 × 10⁻⁵ – 1.40 × 10⁻⁴"
    assert interval(0.03, 0.04) == "0.0300 – 0.0400"


def test_markdown_cells_cannot_break_the_table() -> None:
    table = Table(("a", "b"), (Group("g|h", ((Cell("x|y\nz"), Cell("<b>")),)),))
    assert markdown_table(table).splitlines()[2:4] == ["|  | **g\\|h** |", "| x\\|y z | &lt;b&gt; |"]


def test_a_caption_says_what_there_was_no_room_for(run: Run) -> None:
    svg = {"light": "<svg></svg>", "dark": "<svg></svg>"}
    numbers = {"importance": {"panels": [{}] * 6, "sites": 24}, "spectrum": {"panels": [{}] * 2, "sites": 2}}
    text = render(decomposition_page(*run, {"importance": svg, "spectrum": svg}, numbers=numbers))
    assert text.count("There is room for the first") == 1
    assert "There is room for the first 6 of 24 sites." in text
    text = render(decomposition_page(*run, {"scorecard": svg}, numbers={"scorecard": {"lines": [{}] * 40, "barred": 55}}))
    assert "There is room for the first 40 of 55 lines with a bar." in text


def test_figures_of_an_earlier_report_are_removed(folder: Path, untold: Run, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "figures" / "mine.svg").write_text("<svg/>")
    write_report(tmp_path, untold[0], Judged(untold[1]))
    left = {path.name for path in (tmp_path / "figures").iterdir()}
    drawn = {"scorecard", "importance", "spectrum", "ladder"}
    assert left == {f"{name}{end}" for name in drawn for end in (".svg", "-dark.svg", ".json")} | {"mine.svg"}
