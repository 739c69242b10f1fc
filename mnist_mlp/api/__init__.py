"""The Python API: fit, sweep, Run and Sweep. It delegates to the other packages and displays their results."""
