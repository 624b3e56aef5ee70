"""Hostile files for every reader: what comes out is data or the reader's own error.

``python benchmarks/fuzz.py 100000`` writes that many broken files for each reader, one
after the other, and reads them. The bytes are those of good files, changed at random:
flipped, cut, doubled, mixed, hostile numbers put in. Each reader has a process of its own:
an input that ends it is told of and left out. Prints inputs, seconds, how many were read,
the slowest one and what went wrong; each input is made again by its reader, seed and
number: ``python benchmarks/fuzz.py 1 --only wfm --first 4711``. Address space is limited to
8 GB, so that a file that makes a reader take memory without bound is found too.
"""

import argparse
import asyncio
import atexit
import gzip
import hashlib
import io
import json
import re
import resource
import sys
import tempfile
import time
import traceback
import warnings
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import ferpipe
from ferpipe import datasets, read_image
from ferpipe.candide.wfm import read_wfm
from ferpipe.datasets import fer2013
from ferpipe.datasets.labels import FERPLUS_VOTES
from ferpipe.datasets.pts import read_pts
from ferpipe.experiments.spec import SpecError, compile_spec, read_mapping
from ferpipe.networks.weights import read_weights
from ferpipe.serve.app import make_app
from ferpipe.serve.limits import Limits

# what is made here is there in the processes without being sent to them
Process, SimpleQueue, Value = (
    getattr(get_context("fork"), name) for name in ("Process", "SimpleQueue", "Value")
)
TESTS = Path(__file__).parent.parent / "tests"
PACKAGE = Path(ferpipe.__file__).parent
CANDIDE_WFM = """# a square
4
0 0 0
1 0 0
1 1 0
0 1 0

2
0 1 2
0 2 3

1
# AU1 lift
2
2 0 0.5 0
3 0 0.5 0

1
# width
1
1 0.25 0 0

1
0 0.5
1
0 -0.25
0
0 0 0
1 1 1
0 0 0
"""
EXPERIMENT = """name: hostile
seed: 0
data: {expression_sequences: {n_sequences: 12, n_frames: 2}}
pipeline:
  describe: {PerFrame: {transformer: {HOGFeatures: {orientations: {try: [6, 9]}}}}}
  pool: PoolFrames
  classify: {SVC: {C: {try: [1e-1, 10]}, kernel: {try: [linear, rbf]}}}
evaluate:
  outer_cv: {StratifiedKFold: {n_splits: 3, shuffle: true}}
  scoring: [accuracy]
report: {to: reports/hostile}
"""
WORDS = [
    *(
        b"nan",
        b"inf",
        b"0x" + b"f" * 5000,
        b"-1",
        b"1e999",
        b"0x10",
        b"9" * 30,
        b"9" * 5000,
        b"",
        b"-0",
        b"1_0",
    ),
    *(b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n", b",", b'"', b"'", b"\t", b" "),
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b"[" * 3000,
        b"{a: " * 1000,
        b"&a [*a]",
        b"<<: ",
        b"? ",
        b"!!",
    ),
    *(b"!!python/object/apply:os.system [ls]", b"!!int ''", b"!!bool x", b"2001-99-99"),
    *(b"&a", b"*a", b"try", b"#", b"---\n", b"%", b"|", b">", b"1:1", b".inf", b"~", b"=="),
    *(
        "\u0663\u2028\ud7ff".encode(),
        b"c__builtin__\neval\n",
        b"\x80\x05",
        b"(",
        b")R",
        b"b",
    ),
]
FORM_WORDS = [
    *WORDS,
    *(b"\r\n--line\r\n", b"--line--", b"\r\n\r\n", b"\r\n--line\r\n\r\n" * 3000),
    *(b'; name="file"', b"boundary=", b"\r\nContent-Disposition: form-data; name=file"),
]


@dataclass
class Reader:
    """A reader of files, good contents for it, and what its errors name.

    Attributes
    ----------
    name : str
        Of the file.
    contents : list of bytes
        What it reads without an error.
    read : callable
        Takes the path.
    names_file : bool
        Whether each error names the file.
    error : type
        The kind of its errors.
    raised_in : Path
        Where its errors are raised.
    words : tuple of bytes
        Hostile words that are put in.
    """

    name: str
    contents: list
    read: object
    names_file: bool = True
    error: type = ValueError
    raised_in: Path = PACKAGE
    words: tuple = tuple(WORDS)


def pictures():
    """Return small images in every format that is read."""
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 3), dtype=np.uint8)
    color, gray = Image.fromarray(pixels), Image.fromarray(pixels[..., 0])
    turned = Image.Exif()
    turned[0x0112] = 6
    contents = []
    for image, name, options in (
        (color, "png", {}),
        (gray, "png", {}),
        (color.quantize(7), "png", {"transparency": 3}),
        (color, "jpeg", {"exif": turned}),
        (color, "jpeg", {"progressive": True}),
        (color.convert("CMYK"), "tiff", {"compression": "tiff_lzw"}),
        (gray, "tiff", {}),
        (color, "gif", {"save_all": True, "append_images": [color.rotate(90)]}),
        (color, "bmp", {}),
        (color, "ppm", {}),
        (color.convert("RGBA"), "webp", {"lossless": True}),
        (color, "jpeg2000", {}),
        (color, "avif", {}),
    ):
        file = io.BytesIO()
        image.save(file, name, **options)
        contents.append(file.getvalue())
    return contents


def faces_csv(n=4):
    """Return a csv file of FER2013 with a few faces."""
    rng = np.random.default_rng(0)
    rows = [
        f"{i},{' '.join(map(str, rng.integers(0, 256, 2304)))},{usage}"
        for i, usage in zip(range(n), ("Training", "PublicTest") * n, strict=False)
    ]
    return "\n".join(["emotion,pixels,Usage", *rows, ""]).encode("ascii")


def network_file():
    """Return a file of weights, small."""
    from safetensors.numpy import save

    facts = {"parameters": {}, "classes": ["a"], "image_shape": [8, 8], "temperature": 1.0}
    weights = {"frames.weight": np.zeros((2, 3), np.float16)}
    return save(weights, metadata={"image_network": json.dumps(facts)})


def read_model(path):
    """Load a model with a card that fits, as somebody has it who changed both files."""
    card = {
        "format": 1,
        "classes": [],
        "input": {},
        "versions": {},
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(card))
    return ferpipe.load(path)


def read_card(path):
    """Load a good model with a card from a stranger."""
    model = path.with_suffix(".joblib")
    if not model.exists():
        model.write_bytes((TESTS / "saved" / "svc_format1.joblib").read_bytes())
    return ferpipe.load(model)


class RefusedForm(Exception):
    """The server refuses a form, as it should: with 4xx and a sentence."""


class FormServer:
    """The server, in this process, with a recognizer that finds no face.

    A file holds the header Content-Type of a request in its first line, then the body.
    """

    def __init__(self):
        self._app = None

    def _start(self):
        self._loop = asyncio.new_event_loop()
        self._app = make_app(NobodyRecognizer(), limits=Limits(body_bytes=2**20))
        framework = self._app.app
        life = framework.router.lifespan_context(framework)
        self._loop.run_until_complete(life.__aenter__())
        atexit.register(self._stop, life)

    def _stop(self, life):
        self._loop.run_until_complete(life.__aexit__(None, None, None))
        self._loop.close()

    def read(self, path):
        """Send a form; return the faces, or raise RefusedForm."""
        if self._app is None:  # not before the process is there that reads
            self._start()
        kind, _, body = path.read_bytes().partition(b"\n")
        messages = [{"type": "http.request", "body": body}]
        answers = []

        async def receive():
            return messages.pop() if messages else await asyncio.sleep(60)

        async def send(message):
            answers.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "scheme": "http",
            "http_version": "1.1",
            "path": "/v1/predict",
            "root_path": "",
            "query_string": b"",
            "headers": [(b"host", b"localhost"), (b"content-type", kind)],
        }
        self._loop.run_until_complete(self._app(scope, receive, send))
        answer = json.loads(b"".join(message.get("body", b"") for message in answers))
        status = answers[0]["status"]
        if status == 200:
            return answer["faces"]
        if (
            400 <= status < 500
            and list(answer) == ["detail"]
            and answer["detail"][-1] == "."
        ):
            raise RefusedForm(answer["detail"])
        raise AssertionError(f"status {status}: {answer}")


class NobodyRecognizer:
    """Stands in for a Recognizer: there is nobody in any image."""

    every, gives, color, classes = None, "probabilities", False, ("anger", "fear")
    model = make_pipeline(StandardScaler())

    def predict_image(self, image):
        """Find no face."""
        return []


def forms():
    """Return good forms in all the ways in which clients write them."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("L", (3, 2), 120).save(file, "png")
    image = file.getvalue()

    def part(head, content=b"text"):
        return b"--line\r\n" + head + b"\r\n\r\n" + content + b"\r\n"

    named = b'Content-Disposition: form-data; name="%s"'
    file_part = part(named % b"file" + b'; filename="a.png"', image)
    plain = b"multipart/form-data; boundary=line\n"
    inner = plain + file_part + b"--line--\r\n"
    nested = part(
        named % b"set" + b"\r\nContent-Type: multipart/mixed; boundary=in",
        b"--in\r\n" + named % b"file" + b"\r\n\r\n1\r\n--in--",
    )
    other = part(named % b'note\\"\x01\xc3\xbc' + b"; charset=utf-8\r\nX-A: b")
    return [
        inner,
        plain + part(named % b"a") + file_part + other + b"--line--",
        plain + nested + file_part + b"--line--\r\nafter",
        plain + b"before\r\n" + file_part + part(named % b"b", b"") + b"--line--",
        plain + 60 * part(named % b"c", b"") + file_part + b"--line--\r\n",
        inner.replace(b"boundary=line", b'charset=x; Boundary="line" '),
        inner.replace(b"name=", b"NAME=").replace(b'"file"', b"file"),
        b"image/png\n" + image,
    ]


def readers():
    """Return {name: Reader}."""
    openface = (
        b"frame, timestamp, confidence, success, pose_Rx, AU01_r, AU12_r, AU12_c\n"
        b"1, 0.1, 0.9, 1, 0.1, 0.5, 1.5, 1\n2, 0.2, 0.9, 0, 0, 0, 0, 0\n"
    )
    fex = (
        b"frame,FaceRectX,FaceScore,AU01,AU12,Pitch,input\n0,10.5,0.99,0.1,0.2,3.5,a.mp4\n"
        b"5,,,,,,a.mp4\n0,10.5,0.9,0.1,0.2,3.5,b.mp4\n"
    )
    points = "\n".join(f"{x}.25 {x * 2}e0" for x in range(68))
    pts = f"version: 1\nn_points: 68\n{{\n{points}\n}}\n".encode("ascii")
    votes = ["Usage", "Image name", *FERPLUS_VOTES]
    rows = [["Training", "a.png", *["1"] * 10], ["PublicTest", "b.png", *["2"] * 10]] * 2
    ferplus = "\n".join(",".join(row) for row in [votes, *rows]).encode("ascii") + b"\n"
    csv = faces_csv()
    saved = [path.read_bytes() for path in sorted((TESTS / "saved").rglob("*.joblib"))]
    card = (TESTS / "saved" / "svc_format1.json").read_bytes()

    usages = np.array(["Training", "PublicTest"] * 2)

    def read_votes(path):
        return fer2013._read_votes(path, usages, required=True)

    def read_experiment(path):
        return compile_spec(read_mapping(path))

    return {
        "image": Reader("hostile.img", pictures(), read_image),
        "pts": Reader("hostile.pts", [pts], read_pts),
        "wfm": Reader("hostile.wfm", [CANDIDE_WFM.encode("ascii")], read_wfm),
        "fer2013": Reader("hostile.csv", [csv], fer2013._parse_faces),
        "fer2013_gz": Reader(
            "hostile.csv.gz", [gzip.compress(csv, mtime=0)], fer2013._parse_faces
        ),
        "ferplus": Reader("fer2013new.csv", [ferplus], read_votes),
        "openface": Reader("hostile.csv", [openface], datasets.load_openface_csv),
        "fex": Reader("hostile.csv", [fex], datasets.load_fex_csv),
        "yaml": Reader(
            "hostile.yaml",
            [EXPERIMENT.encode("ascii")],
            read_experiment,
            names_file=False,
            error=SpecError,
        ),
        "model": Reader("hostile.joblib", saved, read_model),
        "card": Reader("hostile.json", [card], read_card, names_file=False),
        "form": Reader(
            "hostile.form",
            forms(),
            FormServer().read,
            names_file=False,
            error=RefusedForm,
            raised_in=Path(__file__),
            words=tuple(FORM_WORDS),
        ),
        "weights": Reader("hostile.safetensors", [network_file()], read_weights),
    }


def change(rng, contents, words=tuple(WORDS)):
    """Return one of the contents, changed at random in one way or a few."""
    data = bytearray(contents[rng.integers(len(contents))])
    for _ in range(rng.geometric(0.6)):
        start = int(rng.integers(len(data) + 1))
        length = int(min(rng.geometric(0.1), len(data) - start))
        kind = rng.integers(8)
        if kind == 0 and data:  # flip a bit
            data[start % len(data)] ^= 1 << int(rng.integers(8))
        elif kind == 1:  # other bytes
            data[start : start + length] = rng.bytes(length)
        elif kind == 2:  # leave out
            del data[start : start + length]
        elif kind == 3:  # double
            data[start:start] = data[start : start + length] * int(rng.integers(1, 40))
        elif kind == 4:  # cut off
            del data[start:]
        elif kind == 5:  # go on as another file
            other = contents[rng.integers(len(contents))]
            data[start:] = other[int(rng.integers(len(other))) :]
        elif kind == 6:  # a hostile word
            data[start : start + length] = words[rng.integers(len(words))]
        else:  # a hostile word in the place of a number or word
            found = list(re.finditer(rb"[\w.+-]+", data[start : start + 4000]))
            if found:
                match = found[rng.integers(len(found))]
                word = words[rng.integers(len(words))]
                data[start + match.start() : start + match.end()] = word
    return bytes(data)


def hostile_file(name, reader, seed, number):
    """Return the bytes of one input; the same for the same arguments."""
    key = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:8])
    return change(np.random.default_rng([key, number]), reader.contents, reader.words)


def fuzz(name, reader, folder, n, *, seed=0, first=0, at=None):
    """Read hostile files.

    Parameters
    ----------
    name : str
        Of the reader.
    reader : Reader
    folder : Path
        Where the file is written.
    n : int
        Number of inputs.
    seed, first : int, default=0
        Which inputs: those with this seed and the numbers from ``first`` on.
    at : Value, default=None
        Gets the number of the input before it is read.

    Returns
    -------
    n_read : int
        Inputs that were read without an error.
    slowest : (float, int)
        Seconds and number of the input that took longest.
    crashes : dict of str to list of int
        What came out that is no error of the reader's own, and the inputs that gave it.
    """
    path = folder / reader.name
    n_read, slowest, crashes = 0, (0.0, 0), {}
    for number in range(first, first + n):
        path.write_bytes(hostile_file(name, reader, seed, number))
        if at is not None:
            at.value = number
        start = time.perf_counter()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reader.read(path)
            n_read += 1
        except Exception as error:
            wrong = what_is_wrong(error, reader, path)
            if wrong:
                crashes.setdefault(wrong, []).append(number)
        slowest = max(slowest, (time.perf_counter() - start, number))
    return n_read, slowest, crashes


def fuzz_apart(name, reader, n, *, seed=0, first=0):
    """Do the same in a process of its own, which an input may end; leave that one out."""
    at, answers = Value("q"), SimpleQueue()
    n_read, slowest, crashes = 0, (0.0, 0), {}
    left = [(first, first + n)]
    while left:
        start, end = left.pop()
        with tempfile.TemporaryDirectory() as folder:

            def work(start=start, end=end, folder=Path(folder)):
                n = end - start
                answers.put(fuzz(name, reader, folder, n, seed=seed, first=start, at=at))

            worker = Process(target=work)
            worker.start()
            while worker.is_alive() and answers.empty():
                worker.join(0.1)
        if answers.empty():
            wrong = f"the process ended with {worker.exitcode}"
            crashes.setdefault(wrong, []).append(at.value)
            left += [(at.value + 1, end), (start, at.value)]
            continue
        more, slow, found = answers.get()
        worker.join()
        n_read, slowest = n_read + more, max(slowest, slow)
        for wrong, numbers in found.items():
            crashes.setdefault(wrong, []).extend(numbers)
    return n_read, slowest, crashes


def what_is_wrong(error, reader, path):
    """Return what makes an error none of the reader's own, or None."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{type(error).__name__} at {Path(frame.filename).name}:{frame.lineno}"
    if not isinstance(error, reader.error) or isinstance(error, UnicodeError):
        return place
    if not Path(frame.filename).is_relative_to(reader.raised_in):
        return f"{place}, raised by another package"
    if reader.names_file and path.name not in str(error):
        return f"{place} does not name the file"
    return None


def main():
    """Read the command line, fuzz and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("n", type=int, nargs="?", default=1000, help="inputs a reader")
    parser.add_argument("--only", nargs="+", choices=list(readers()), help="readers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, resource.RLIM_INFINITY))
    n_crashes = 0
    for name, reader in readers().items():
        if options.only and name not in options.only:
            continue
        start = time.perf_counter()
        n_read, slowest, crashes = fuzz_apart(
            name, reader, options.n, seed=options.seed, first=options.first
        )
        seconds = time.perf_counter() - start
        print(
            f"{name:12} {options.n} inputs, seed {options.seed}, {seconds:.0f} s; {n_read} "
            f"read; slowest {slowest[0]:.2f} s (number {slowest[1]}); "
            f"{sum(map(len, crashes.values()))} crashes",
            flush=True,
        )
        for wrong, numbers in crashes.items():
            print(f"    {len(numbers)} times {wrong}: number {numbers[0]}")
        n_crashes += len(crashes)
    return bool(n_crashes)


if __name__ == "__main__":
    sys.exit(main())
