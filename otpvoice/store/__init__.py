"""The database: tables, the engine, and one file of named transactions per table."""
