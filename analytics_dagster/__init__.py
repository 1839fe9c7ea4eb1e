"""Loads a REST analytics API into a warehouse with Dagster and dlt.

Read the modules in the order in which they import each other: errors, full_disk, redaction,
progress, columns, api_config, api_fields, api_spec, api_reader, authentication, origin,
connections, failures, gate, traffic, retrying, transport, envelope, read_ahead, paginators, pages,
values, contract, sql, scratch, landing, description, source, resources, database, file_lock,
duckdb_warehouse, csv_files, postgres_copying, postgres_connection, postgres_lock,
postgres_warehouse, ducklake_settings, ducklake_catalog, ducklake_files, ducklake_attaching,
ducklake_warehouse, copied_tables, delta_settings, delta_tables, delta_writing, delta_warehouse,
other_settings, other_warehouse, warehouse, working_folder, table, comparison, mending, load_errors,
loading, metadata, timetable, assets, verdicts, table_checks, load_checks, checks, jobs, in_flight,
schedules, changes, sensors, run_failures, webhook, alerts, executors, definitions.
"""
