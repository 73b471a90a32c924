"""Labels: which turns of an episode a method acts on. No method finds its labels anywhere else."""

from shaping.labels.source import LabelSource as LabelSource
from shaping.labels.source import sources_of as sources_of
