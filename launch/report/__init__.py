"""The report of a study: what was measured, with intervals over seeds, and what it says about the hypotheses."""

from launch.report.build import build
from launch.report.load import StudyDirectoryError

__all__ = ["StudyDirectoryError", "build"]
