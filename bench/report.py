"""Runs as figures, and figures as Markdown."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from tabulate import tabulate

from bench.contenders import Run

_UNITS = {"load": "s", "process": "s", "cpu": "s", "peak": "MB"}
_HOLDS = {">=": operator.ge, "<=": operator.le}
_FIGURES = ("", "what", "ratio", "target", "met")
_RUNS = (
    "run",
    "offer",
    "runs",
    "load s",
    "from, to",
    "process s",
    "CPU s",
    "peak MB",
    "rows right",
)


@dataclass
class Series:
    """The runs of one contender on one offer."""

    name: str
    offer: str
    runs: list[Run] = field(default_factory=list)

    def median(self, of: str) -> float:
        """The middle one of a figure of the runs: load, process, cpu or peak."""
        return float(median(getattr(run, of) for run in self.runs))

    def row(self) -> list[str]:
        """The line of this series in the report."""
        loads = sorted(run.load for run in self.runs)
        load, *others = (f"{self.median(of):,.{0 if of == 'peak' else 2}f}" for of in _UNITS)
        spread = f"{loads[0]:.2f}, {loads[-1]:.2f}"
        cells = [self.name, self.offer, str(len(loads)), load, spread, *others, self.runs[0].right]
        return ["" if "nan" in cell else cell for cell in cells]


@dataclass(frozen=True)
class Figure:
    """A ratio, what it is made of, and the limit that it should keep: ">=" or "<=" a number."""

    number: int
    what: str
    ratio: float
    sign: str
    limit: float
    series: Sequence[Series]

    def flaws(self) -> list[str]:
        """Why the ratio is void, if it is."""
        return [f"{s.name}, {s.offer}: {r.flaw}" for s in self.series for r in s.runs if r.flaw]

    def row(self) -> list[str]:
        """The line of this figure in the report."""
        ratio, met = f"{self.ratio:.2f}", _HOLDS[self.sign](self.ratio, self.limit)
        result = ["n/a", ""] if self.flaws() else [ratio, "yes" if met else "no"]
        return [str(self.number), self.what, result[0], f"{self.sign} {self.limit:g}", result[1]]


def compare(  # noqa: PLR0913  it reads as a sentence
    number: int, over: Series, under: Series, sign: str, limit: float, *, of: str = "load"
) -> Figure:
    """The ratio of the medians of two series."""
    above, below = (f"{s.name} {s.median(of):,.2f} {_UNITS[of]}" for s in (over, under))
    what = f"{over.offer}: {above} / {'' if over.offer == under.offer else f'{under.offer}: '}"
    ratio = over.median(of) / under.median(of)
    return Figure(number, f"{what}{below}", ratio, sign, limit, [over, under])


def report(figures: Sequence[Figure]) -> str:
    """The tables of all figures and of all runs, and what voids some."""
    series = {id(one): one for figure in figures for one in figure.series}
    flaws = dict.fromkeys(flaw for figure in figures for flaw in figure.flaws())
    tables = [
        ([figure.row() for figure in figures], _FIGURES),
        ([one.row() for one in series.values()], _RUNS),
    ]
    return "\n\n".join(
        [
            *(tabulate(*table, tablefmt="github", disable_numparse=True) for table in tables),
            *(f"n/a: {flaw}" for flaw in flaws),
        ]
    )
