"""`make bench` and `make bench-quick`: run all contenders, and print the ratios as Markdown."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from importlib.metadata import version
from pathlib import Path

from bench import RESOURCES
from bench.contenders import (
    COMMANDS,
    FLOOR,
    OURS,
    PARQUET,
    STOCK,
    Bench,
    Offer,
    Run,
    requests_per_second,
    server,
    stats,
)
from bench.report import Figure, Series, compare, report

_AGENTS = "agents_overview"
_MATERIALIZE = ["-m", "dagster", "asset", "materialize", "--select", "*", "-m"]
_PACKAGES = ("dagster", "dagster-dlt", "dlt", "duckdb", "pyarrow", "urllib3", "orjson")


def full(bench: Bench) -> Iterator[Figure]:
    """All figures; about ten minutes, most of them for stock dlt."""
    small = race(bench, Offer(20_000), {STOCK: 2, OURS: 3})
    yield compare(1, small[STOCK], small[OURS], ">=", 20)
    large = race(bench, Offer(100_000), {STOCK: 1, PARQUET: 2, OURS: 3, FLOOR: 3})
    yield compare(2, large[STOCK], large[OURS], ">=", 30)
    yield compare(3, large[PARQUET], large[OURS], ">=", 5)
    yield compare(4, large[OURS], large[FLOOR], "<=", 2)
    slow = race(bench, Offer(20_000, latency_ms=50), {STOCK: 1, OURS: 2})
    yield compare(5, slow[STOCK], slow[OURS], ">=", 7)
    yield tiny(bench, 7)
    yield definitions(bench, 7)
    yield memory(bench)
    yield changed(bench, 5, (10_000_000, 10_000))
    yield rate(bench, 1200)


def quick(bench: Bench) -> Iterator[Figure]:
    """The figures that need no large tables, smaller; the targets are those of the full sizes."""
    small = race(bench, Offer(5_000), {STOCK: 1, PARQUET: 2, OURS: 3, FLOOR: 3})
    yield compare(1, small[STOCK], small[OURS], ">=", 20)
    yield compare(3, small[PARQUET], small[OURS], ">=", 5)
    yield compare(4, small[OURS], small[FLOOR], "<=", 2)
    slow = race(bench, Offer(2_000, latency_ms=50), {STOCK: 1, OURS: 2})
    yield compare(5, slow[STOCK], slow[OURS], ">=", 7)
    yield tiny(bench, 3)
    yield definitions(bench, 3)


def smoke(bench: Bench) -> Iterator[Figure]:
    """Whether all contenders work, in a few seconds; its times say nothing."""
    few = race(bench, Offer(250), {STOCK: 1, PARQUET: 1, OURS: 1, FLOOR: 1})
    yield compare(1, few[STOCK], few[OURS], ">=", 0)
    yield compare(3, few[PARQUET], few[FLOOR], ">=", 0)


def race(bench: Bench, offer: Offer, rounds: Mapping[str, int]) -> dict[str, Series]:
    """So many runs of each contender on one offer."""
    series = {name: Series(name, f"{len(RESOURCES)} x {offer}") for name in rounds}
    with server(offer) as base_url:

        def run(name: str) -> Run:
            return bench.load(COMMANDS[name], offer, base_url)

        take_turns((one, rounds[name], partial(run, name)) for name, one in series.items())
    return series


def take_turns(contenders: Iterable[tuple[Series, int, Callable[[], Run]]]) -> None:
    """A B C, A B C, … as often as each is told: what else the machine does is spread over all."""
    contenders = list(contenders)
    for number in range(max(rounds for _, rounds, _ in contenders)):
        for series, rounds, run in contenders:
            if number < rounds:
                series.runs.append(run())


def tiny(bench: Bench, rounds: int) -> Figure:
    """The process that a user starts for a few rows, and the same for assets that do nothing."""
    offer = Offer(3)
    ours = Series("ours, dagster asset materialize", f"{len(RESOURCES)} x {offer}")
    empty = Series("three empty assets, the same", "no rows")
    command = [*_MATERIALIZE, "analytics_dagster.definitions"]
    with server(offer) as base_url:
        take_turns(
            [
                (ours, rounds, lambda: bench.load(command, offer, base_url)),
                (empty, rounds, lambda: bench.run([*_MATERIALIZE, "bench.empty"])),
            ]
        )
    return compare(6, ours, empty, "<=", 1.4, of="process")


def definitions(bench: Bench, rounds: int) -> Figure:
    """What a code location costs before it does anything."""
    codes = ("import analytics_dagster.definitions", "import dagster, dlt")
    ours, bare = (Series(code, "python -c") for code in codes)
    take_turns((one, rounds, partial(bench.run, ["-c", one.name])) for one in (ours, bare))
    return compare(7, ours, bare, "<=", 1.3, of="process")


def memory(bench: Bench) -> Figure:
    """The peak of the whole process; ten times the rows should not show."""
    large, small = (Series(OURS, f"1 x {rows:,} rows") for rows in (1_000_000, 100_000))
    large.runs.append(load_agents(bench, Offer(1_000_000)))
    small.runs.append(load_agents(bench, Offer(100_000)))
    return compare(8, large, small, "<=", 1.15, of="peak")


def changed(bench: Bench, rounds: int, sizes: tuple[int, int]) -> Figure:
    """As many changed rows into a large and a small table; both began as a load of ours."""
    large, small = (Series(OURS, f"1 x {Offer(rows, changed=1000)}") for rows in sizes)

    def run(rows: int, file: Path) -> Run:
        now = datetime.now(timezone.utc).replace(microsecond=0)
        return load_agents(bench, Offer(rows, changed=1000, changed_at=now), file)

    turns = []
    for rows, series in zip(sizes, (large, small), strict=True):
        file = bench.new_file()
        load_agents(bench, Offer(min(sizes)), file)
        bench.grow(file, rows, _AGENTS)
        turns.append((series, rounds, partial(run, rows, file)))
    take_turns(turns)
    return compare(9, large, small, "<=", 2)


def load_agents(bench: Bench, offer: Offer, file: Path | None = None) -> Run:
    """A load of ours of one resource."""
    with server(offer) as base_url:
        return bench.load([*COMMANDS[OURS], _AGENTS], offer, base_url, file, [_AGENTS])


def rate(bench: Bench, limit: int) -> Figure:
    """Whether a limit is used up and never met; longer than the minute in which it counts."""
    offer = Offer(limit * 150, rate_limit=limit)
    config = f'{{"requests_per_minute": {limit}}}'
    series = Series(OURS, f"1 x {offer}, {limit:,} requests a minute")
    with server(offer) as base_url:
        command = ["-m", "bench.ours", config, _AGENTS]
        series.runs.append(bench.load(command, offer, base_url, None, [_AGENTS]))
        seen = stats(base_url)
    per_minute = 60 * (seen["answered"] - 1) / max(seen["seconds"], 1)
    failed = sum(bool(run.flaw) for run in series.runs)
    text = f"{series.offer}: {per_minute:,.1f} reached, {seen['refused']:.0f} refused"
    return Figure(10, f"{text}, {failed} failed runs", per_minute / limit, ">=", 0.95, [series])


def machine() -> Iterator[str]:
    """What the figures depend on."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"{datetime.now(timezone.utc):%Y-%m-%d}, {model[1] if model else platform.machine()}, "
    yield f"{os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()}, "
    yield f"Python {platform.python_version()}, "
    yield ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    yield f". The server alone answers {requests_per_second():,.0f} requests a second. "
    yield f"Load of the machine over 15 minutes, the benchmark included: {os.getloadavg()[2]:.1f}."


def main() -> int:
    """Prints the report; the exit status is 0 when no figure is void."""
    modes = {"--full": full, "--quick": quick, "--smoke": smoke}
    mode = modes[(sys.argv[1:] or ["--full"])[0]]
    with tempfile.TemporaryDirectory(prefix="analytics_bench_") as folder:
        figures = []
        for figure in mode(Bench(Path(folder))):
            figures.append(figure)
            print(*figure.row(), sep="  ", file=sys.stderr, flush=True)
    print("".join(machine()), report(figures), sep="\n\n")
    return int(any(figure.flaws() for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
