"""The run folder: files, lock, result, settings, fingerprint and predictions. Imports no torch."""
