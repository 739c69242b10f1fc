"""Our training timed beside a bare PyTorch loop, the usual Lightning example and the matrix products alone. Nothing
else in the package depends on it."""
