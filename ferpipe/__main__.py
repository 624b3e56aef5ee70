"""``python -m ferpipe`` lists the programs."""

import ferpipe

PROGRAMS = {
    "ferpipe.grid": "run an experiment file: search, scores, report, model",
    "ferpipe.predict": "recognise expressions in images, videos or a camera: a table",
    "ferpipe.serve": "a web page and an HTTP API for a model",
    "ferpipe.inspect": "list what a model file holds, without loading it",
    "ferpipe.compare": "compare runs on the samples that they share",
    "ferpipe.train": "train what the package ships, on data of your own",
}

print(f"ferpipe {ferpipe.__version__}: {ferpipe.__doc__.splitlines()[0]}\n")
for module, purpose in PROGRAMS.items():
    print(f"  python -m {module:<14} {purpose}")
print("\nEach takes --help.")
