"""Loaders of data sets: a path in, a Bunch out. Nothing is ever downloaded."""

from ferpipe.datasets.afew import load_afew
from ferpipe.datasets.bunch import as_bunch
from ferpipe.datasets.ck48 import load_ck48
from ferpipe.datasets.ckplus import load_ckplus
from ferpipe.datasets.emotic import load_emotic
from ferpipe.datasets.fer2013 import load_fer2013
from ferpipe.datasets.ferg import load_ferg
from ferpipe.datasets.fex import load_fex_csv
from ferpipe.datasets.folders import load_image_folder, load_sequence_folder
from ferpipe.datasets.jaffe import load_jaffe
from ferpipe.datasets.joined import join_data_sets
from ferpipe.datasets.openface import load_openface_csv
from ferpipe.datasets.pts import read_pts
from ferpipe.datasets.rafd import load_rafd
from ferpipe.datasets.summary import summary
from ferpipe.datasets.synthetic import make_expression_sequences

__all__ = [
    "as_bunch",
    "join_data_sets",
    "load_afew",
    "load_ck48",
    "load_ckplus",
    "load_emotic",
    "load_fer2013",
    "load_ferg",
    "load_fex_csv",
    "load_image_folder",
    "load_jaffe",
    "load_openface_csv",
    "load_rafd",
    "load_sequence_folder",
    "make_expression_sequences",
    "read_pts",
    "summary",
]
