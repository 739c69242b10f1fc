"""Differences between settings, like for like: runs are compared with runs of the same seed and the same other settings."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mnist_mlp.compare.jobs import Job, file_stamp
from mnist_mlp.compare.statistics import PairedComparison, Variance, crossed_difference, paired_difference
from mnist_mlp.runs.folder import RunFolder
from mnist_mlp.runs.predictions import read_labels
