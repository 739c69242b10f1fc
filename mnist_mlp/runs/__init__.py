"""The run folder: its files and lock, the typed result, settings and fingerprint, predictions. Imports no torch."""
