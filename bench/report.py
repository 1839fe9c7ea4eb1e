"""Runs as figures, and figures as Markdown."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median

from tabulate import tabulate

from bench.contenders import Run

_UNITS = {"load": "s", "process": "s", "cpu": "s", "peak": "MB"}


@dataclass
class Series:
    """The runs of one contender on one offer."""

    name: str
    offer: str
    runs: list[Run] = field(default_factory=list)

    def median(self, of: str) -> float:
        """The middle one of a figure of the runs: load, process, cpu or peak."""
        return float(median(getattr(run, of) for run in self.runs))

    def flaws(self) -> Iterator[str]:
        """What voids the figures."""
        return (f"{self.name}, {self.offer}: {run.flaw}" for run in self.runs if run.flaw)

    def row(self) -> tuple[str, ...]:
        """The line of this series in the report."""
        loads = [run.load for run in self.runs]
        spread = f"{min(loads):.2f} to {max(loads):.2f}" if len(loads) > 1 else ""
        medians = (f"{self.median(of):,.{0 if of == 'peak' else 2}f}" for of in _UNITS)
        cells = (self.name, self.offer, str(len(loads)), *medians, spread, self.runs[0].right)
        return tuple("" if "nan" in cell.split() else cell for cell in cells)


@dataclass(frozen=True)
class Target:
    """What a ratio should be."""

    text: str
    is_met: Callable[[float], bool]


def at_least(limit: float) -> Target:
    """A ratio that should be high."""
    return Target(f">= {limit:g}", lambda ratio: operator.ge(ratio, limit))


def at_most(limit: float) -> Target:
    """A ratio that should be low."""
    return Target(f"<= {limit:g}", lambda ratio: operator.le(ratio, limit))


@dataclass(frozen=True)
class Figure:
    """A ratio, what it is made of, and what it should be."""

    number: int
    text: str
    ratio: float
    target: Target
    series: list[Series]

    def flaws(self) -> list[str]:
        """Why the ratio is void, if it is."""
        return [flaw for series in self.series for flaw in series.flaws()]

    def row(self) -> tuple[str, ...]:
        """The line of this figure in the report."""
        if self.flaws():
            return str(self.number), self.text, "n/a", self.target.text, ""
        met = "yes" if self.target.is_met(self.ratio) else "no"
        return str(self.number), self.text, f"{self.ratio:.2f}", self.target.text, met


def compare(number: int, over: Series, under: Series, target: Target, of: str = "load") -> Figure:
    """The ratio of the medians of two series."""
    above, below = over.median(of), under.median(of)
    unit = _UNITS[of]
    text = f"{over.offer}: {over.name}, {above:,.2f} {unit} / "
    text += f"{under.offer}: " if under.offer != over.offer else ""
    text += f"{under.name}, {below:,.2f} {unit}"
    return Figure(number, text, above / below, target, [over, under])


def report(figures: Iterable[Figure]) -> str:
    """The tables of all figures and of all runs, and what voids some."""
    figures = list(figures)
    ratios = [figure.row() for figure in figures]
    series = {id(one): one for figure in figures for one in figure.series}
    runs = [one.row() for one in series.values()]
    flaws = dict.fromkeys(flaw for figure in figures for flaw in figure.flaws())
    return "\n\n".join(
        [
            _markdown(ratios, ("", "what", "ratio", "target", "met")),
            _markdown(
                runs,
                (
                    "run",
                    "offer",
                    "runs",
                    "load s",
                    "process s",
                    "CPU s",
                    "peak MB",
                    "load s, from to",
                    "rows right",
                ),
            ),
            *(f"n/a: {flaw}" for flaw in flaws),
        ]
    )


def _markdown(rows: list[tuple[str, ...]], headers: tuple[str, ...]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
