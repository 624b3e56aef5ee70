"""Train what the package ships: ``python -m ferpipe.train landmarks FOLDER``."""
