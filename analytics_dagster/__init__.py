"""Loads a REST analytics API into a warehouse with Dagster and dlt.

Read the modules in the order in which they import each other: errors, redaction, columns,
api_config, transport, pages, contract, source, resources, assets, jobs, definitions.
"""
