"""`make bench` and `make bench-quick`: run all contenders, and print the ratios as Markdown."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
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
from bench.report import Figure, Series, at_least, at_most, compare, report

_AGENTS = "agents_overview"
_MATERIALIZE = ["dagster", "asset", "materialize", "--select", "*", "-m"]
_PACKAGES = ("dagster", "dagster-dlt", "dlt", "duckdb", "pyarrow", "urllib3", "orjson")


def full(bench: Bench) -> Iterator[Figure]:
    """All figures; about twenty minutes, most of them for stock dlt."""
    small = race(bench, Offer(20_000), {STOCK: 2, OURS: 3})
    yield compare(1, small[STOCK], small[OURS], at_least(20))
    large = race(bench, Offer(100_000), {STOCK: 1, PARQUET: 2, OURS: 3, FLOOR: 3})
    yield compare(2, large[STOCK], large[OURS], at_least(30))
    yield compare(3, large[PARQUET], large[OURS], at_least(5))
    yield compare(4, large[OURS], large[FLOOR], at_most(2))
    slow = race(bench, Offer(20_000, latency_ms=50), {STOCK: 1, OURS: 2})
    yield compare(5, slow[STOCK], slow[OURS], at_least(7))
    yield tiny(bench, 7)
    yield definitions(bench, 7)
    yield memory(bench)
    yield changed(bench, 3)
    yield rate(bench, 1200)


def quick(bench: Bench) -> Iterator[Figure]:
    """The figures that need no large tables, at smaller sizes; about two minutes."""
    small = race(bench, Offer(5_000), {STOCK: 1, PARQUET: 2, OURS: 3, FLOOR: 3})
    yield compare(1, small[STOCK], small[OURS], at_least(20))
    yield compare(3, small[PARQUET], small[OURS], at_least(5))
    yield compare(4, small[OURS], small[FLOOR], at_most(2))
    slow = race(bench, Offer(2_000, latency_ms=50), {STOCK: 1, OURS: 2})
    yield compare(5, slow[STOCK], slow[OURS], at_least(7))
    yield tiny(bench, 3)
    yield definitions(bench, 3)


def smoke(bench: Bench) -> Iterator[Figure]:
    """Whether all contenders work, in a few seconds; its times say nothing."""
    few = race(bench, Offer(250), {STOCK: 1, PARQUET: 1, OURS: 1, FLOOR: 1})
    yield compare(1, few[STOCK], few[OURS], at_least(0))
    yield compare(3, few[PARQUET], few[FLOOR], at_least(0))


def race(bench: Bench, offer: Offer, rounds: Mapping[str, int]) -> dict[str, Series]:
    """So many runs of each contender on one offer, in turns."""
    series = {name: Series(name, f"{len(RESOURCES)} x {offer}") for name in rounds}
    with server(offer) as base_url:
        for name in in_turns(rounds):
            series[name].runs.append(bench.load(COMMANDS[name], offer, base_url))
    return series


def in_turns(rounds: Mapping[str, int]) -> Iterator[str]:
    """A B C, A B C, …: what else the machine does is spread over all."""
    for number in range(max(rounds.values())):
        yield from (name for name, count in rounds.items() if number < count)


def tiny(bench: Bench, rounds: int) -> Figure:
    """The process that a user starts for a few rows, and the same for assets that do nothing."""
    offer = Offer(3)
    series = {
        OURS: Series("ours, dagster asset materialize", f"{len(RESOURCES)} x {offer}"),
        FLOOR: Series("three empty assets, the same", "nothing"),
    }
    with server(offer) as base_url:
        for name in in_turns(dict.fromkeys(series, rounds)):
            if name == OURS:
                command = [*_MATERIALIZE, "analytics_dagster.definitions"]
                series[name].runs.append(bench.load(command, offer, base_url))
            else:
                series[name].runs.append(bench.run([*_MATERIALIZE, "bench.empty"]))
    return compare(6, series[OURS], series[FLOOR], at_most(1.4), "process")


def definitions(bench: Bench, rounds: int) -> Figure:
    """What a code location costs before it does anything."""
    codes = {
        "loading definitions": "import analytics_dagster.definitions",
        "importing dagster and dlt": "import dagster, dlt",
    }
    series = {name: Series(name, code) for name, code in codes.items()}
    for name in in_turns(dict.fromkeys(codes, rounds)):
        series[name].runs.append(bench.python(["-c", codes[name]]))
    above, below = series.values()
    return compare(7, above, below, at_most(1.3), "process")


def memory(bench: Bench) -> Figure:
    """The peak of the whole process; ten times the rows should not show."""
    large, small = (Series(OURS, f"1 x {rows:,} rows") for rows in (1_000_000, 100_000))
    large.runs.append(load_agents(bench, Offer(1_000_000)))
    small.runs.append(load_agents(bench, Offer(100_000)))
    return compare(8, large, small, at_most(1.15), "peak")


def changed(bench: Bench, rounds: int) -> Figure:
    """As many changed rows into a large and a small table; both began as a load of ours."""
    tables = {10_000_000: bench.new_file(), 10_000: bench.new_file()}
    series = {}
    for rows, file in tables.items():
        series[str(rows)] = Series(OURS, f"1 x {Offer(rows, changed=1000)}")
        load_agents(bench, Offer(10_000), file)
        bench.grow(file, rows, _AGENTS)
    for name in in_turns(dict.fromkeys(series, rounds)):
        now = datetime.now(timezone.utc).replace(microsecond=0)
        offer = Offer(int(name), changed=1000, changed_at=now)
        series[name].runs.append(load_agents(bench, offer, tables[int(name)]))
    large, small = series.values()
    return compare(9, large, small, at_most(2))


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
        command = ["bench.ours", config, _AGENTS]
        series.runs.append(bench.load(command, offer, base_url, None, [_AGENTS]))
        seen = stats(base_url)
    per_minute = 60 * (seen["answered"] - 1) / max(seen["seconds"], 1)
    failed = sum(bool(run.flaw) for run in series.runs)
    text = f"{series.offer}: {per_minute:,.1f} reached, {seen['refused']:.0f} refused"
    return Figure(10, f"{text}, {failed} failed runs", per_minute / limit, at_least(0.95), [series])


def machine() -> Iterator[str]:
    """What the figures depend on."""
    cpu = (
        Path("/proc/cpuinfo")
        .read_text()
        .partition("model name")[2]
        .partition("\n")[0]
        .strip(" \t:")
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield f"{datetime.now(timezone.utc):%Y-%m-%d}, {cpu or platform.processor()}, "
    yield f"{os.cpu_count()} cores, {memory:.0f} GiB; {platform.system()}, "
    yield f"Python {platform.python_version()}, "
    yield ", ".join(f"{package} {version(package)}" for package in _PACKAGES)
    yield f". The server alone answers {requests_per_second():,.0f} requests a second."


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
