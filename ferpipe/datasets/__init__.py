"""Loaders of data sets: a path in, a Bunch out. Nothing is ever downloaded."""

from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.ck48 import load_ck48
from ferpipe.datasets.fer2013 import load_fer2013
from ferpipe.datasets.folders import load_image_folder, load_sequence_folder
from ferpipe.datasets.summary import summary
from ferpipe.datasets.synthetic import make_expression_sequences

__all__ = [
    "as_bunch",
    "load_ck48",
    "load_fer2013",
    "load_image_folder",
    "load_sequence_folder",
    "make_expression_sequences",
    "summary",
]
