"""Tests against real things: HTTP servers on loopback, DuckDB files, dagster processes."""
