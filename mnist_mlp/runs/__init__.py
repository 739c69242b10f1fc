"""The run folder: its file names, the typed result, settings and fingerprint, atomic writing. Imports no torch; what
the numbers mean for a comparison belongs in `analysis`."""
