"""Runs read back and compared: grouped over seeds, statistics, effects, verdicts, tables. Imports no torch."""
