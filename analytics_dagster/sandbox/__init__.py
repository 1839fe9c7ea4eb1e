"""The bundled demo API: a made-up call centre behind real HTTP, on this machine only.

Here belongs what it takes to serve believable statistics without an account, a key or the
internet: the people (`people`), their day (`working_day`), the rows (`rows`), the API (`app`) and
its server (`server`). Nothing else in the project depends on it, and it knows nothing of the
project. `python -m analytics_dagster.sandbox` runs it in the foreground.
"""
