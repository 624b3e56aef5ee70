"""Recognize expressions in files: ``python -m ferpipe.predict MODEL clip.mp4 -o a.csv``."""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from glob import glob
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray
from tqdm import tqdm

from ferpipe._system.terminal import careful_output, error_line, printable
from ferpipe.io.images import IMAGE_SUFFIXES, LARGEST_IMAGE, read_image
from ferpipe.io.videos import VIDEO_SUFFIXES, read_frames
from ferpipe.recognition.drawing import Curves, draw_predictions
from ferpipe.recognition.recognizer import Recognizer
from ferpipe.recognition.stream import FacePrediction
from ferpipe.recognition.tables import FORMATS, RowWriter, kind_of

__all__ = ["find_inputs", "main"]

# highest number of a camera that OpenCV takes
_LAST_CAMERA = 2**16
_NO_CAMERA = "there is no camera with this number; the first is 0."
# frame rate of annotated videos from cameras without one
_FRAMES_A_SECOND = 25.0
# the frame count of a container is not exact: a video with less than this share is cut
_WHOLE = 0.95


def find_inputs(names: Iterable[str]) -> list[Path | int]:
    """Find the files of names, folders and patterns.

    Parameters
    ----------
    names : iterable of str
        Files; folders, for all images and videos in them; patterns such as
        ``"clips/*.mp4"``; numbers of cameras.

    Returns
    -------
    inputs : list of Path or int
        Files in the order of the names, sorted within folders and patterns; cameras.

    Raises
    ------
    FileNotFoundError
        If no file that can be read has such a name.
    ValueError
        If the number of a camera is too high.
    """
    inputs: list[Path | int] = []
    for name in names:
        # no file has such a long name, and Python does not convert thousands of digits
        if name.isdecimal() and len(name) > 100:
            raise ValueError(f"{name[:20]}…: {_NO_CAMERA}")
        path = Path(name).expanduser()
        if path.is_dir():
            kinds = IMAGE_SUFFIXES | VIDEO_SUFFIXES
            inside = (file for file in path.rglob("*") if file.suffix.lower() in kinds)
            found = sorted(file for file in inside if file.is_file())
            if not found:
                raise FileNotFoundError(f"{path}: this folder holds no image and no video.")
            inputs += found
        elif path.is_file():
            inputs.append(path)
        elif name.isdecimal() and not os.path.lexists(path):
            if int(name) > _LAST_CAMERA:
                raise ValueError(f"{name}: {_NO_CAMERA}")
            inputs.append(int(name))
        else:
            matches = sorted(glob(str(path), recursive=True))
            files = [Path(match) for match in matches if Path(match).is_file()]
            if matches and not files:
                raise FileNotFoundError(
                    f"{name}: this is not a readable file, but a broken link, a pipe or "
                    "similar."
                )
            if not files:
                raise FileNotFoundError(f"{name}: there is no such file or folder.")
            inputs += files
    return inputs


def main(arguments: list[str] | None = None) -> int:
    """Run the program; return its exit status."""
    with careful_output():
        return _main(arguments)


def _main(arguments: list[str] | None) -> int:
    options = _parser().parse_args(arguments)
    # without OpenCV's own messages on broken files
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    try:
        return _run(options)
    except (TypeError, ValueError, OSError) as error:
        error_line(error)
        return 2
    except KeyboardInterrupt:
        print("\nstopped before the first frame", file=sys.stderr)
        return 130


@dataclass
class _Outputs:
    """The files to which rows, annotated frames and curves are written."""

    table: RowWriter
    row: Any
    video: Path | None
    curves: Curves | None
    n_rows: int = 0
    n_faces: int = 0
    n_faces_before: int = 0
    writers: list = field(default_factory=list)

    def add(
        self,
        source: Path | int,
        frame: NDArray,
        predictions: Sequence[FacePrediction],
        rate: float = _FRAMES_A_SECOND,
        shown: Sequence[FacePrediction] = (),
    ) -> None:
        """Write the predictions of a frame, and the frame with ``shown`` drawn on it."""
        for one in predictions:
            self.table.write(self.row(self._numbered(one), str(source)))
        self.n_rows += len(predictions)
        if self.curves is not None:
            self.curves.add(predictions)
        if self.video is not None:
            self._draw(self.video, frame, shown, rate)

    def begin(self) -> None:
        """Start another input: its faces get new numbers."""
        self.n_faces_before = self.n_faces

    def _numbered(self, prediction: FacePrediction) -> FacePrediction:
        if prediction.face is None:
            return prediction
        face = prediction.face + self.n_faces_before
        self.n_faces = max(self.n_faces, face + 1)
        return replace(prediction, face=face)

    def _draw(
        self, video: Path, frame: NDArray, shown: Sequence[FacePrediction], rate: float
    ) -> None:
        import cv2

        if not self.writers:
            self.writers.append(_video_writer(video, rate, frame.shape))
        drawn = draw_predictions(frame, shown)
        self.writers[0].write(cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        """Complete all files."""
        self.table.close()
        for writer in self.writers:
            writer.release()


def _run(options: argparse.Namespace) -> int:
    inputs = find_inputs(options.inputs)
    single = {"--video": options.video, "--plot": options.plot}
    for name, path in single.items():
        if path and (len(inputs) > 1 or _is_image(inputs[0])):
            raise ValueError(f"{name} takes one video or camera, got {len(inputs)} inputs.")
    kind = kind_of(options.out) if options.out else "csv"
    for path in (options.out, options.video, options.plot):
        if path:
            _check_writable(Path(path).expanduser(), inputs)
    if options.video:
        _check_video(options.video)
    if options.plot:
        _check_plot(options.plot)
    recognizer = Recognizer(
        options.model,
        every=options.every,
        faces=options.faces,
        detect_every=options.detect_every,
        window=options.window,
        smoothing=options.smooth,
        abstain_below=options.abstain,
        neutral=options.neutral,
        trusted=options.trusted,
        input=options.input,
    )
    status = 0
    with ExitStack() as stack:
        file: Any = sys.stdout
        if options.out:
            path = Path(options.out).expanduser()
            file = stack.enter_context(path.open("w", encoding="utf-8", newline=""))
        outputs = _Outputs(
            RowWriter(file, kind),
            FORMATS[options.format],
            Path(options.video).expanduser() if options.video else None,
            Curves() if options.plot else None,
        )
        stack.callback(outputs.close)
        try:
            if _recognize_all(recognizer, inputs, outputs, options.max_pixels):
                status = 1
        except KeyboardInterrupt:
            print(f"\nstopped: {outputs.n_rows} rows were kept", file=sys.stderr)
            status = 130
    written = {options.out: True, options.video: bool(outputs.writers)}
    if outputs.curves is not None:
        written[options.plot] = outputs.curves.n_faces > 0
        if outputs.curves.n_faces:
            figure = outputs.curves.draw(gives=recognizer.gives)
            figure.savefig(Path(options.plot).expanduser(), dpi=150)
        else:
            print("note: no face was found: there is nothing to plot.", file=sys.stderr)
    for path in written:
        if path and written[path]:
            print(f"wrote {path}", file=sys.stderr)
    return status


def _recognize_all(
    recognizer: Recognizer,
    inputs: list[Path | int],
    outputs: _Outputs,
    max_pixels: int,
) -> int:
    """Process the inputs; return the number of those that could not be read."""
    failed = 0
    for source in inputs:
        outputs.begin()
        try:
            _recognize(recognizer, source, outputs, max_pixels)
        except (ValueError, OSError) as error:
            if len(inputs) == 1:
                raise
            failed += 1
            error_line(error)
    return failed


def _recognize(
    recognizer: Recognizer, source: Path | int, outputs: _Outputs, max_pixels: int
) -> None:
    color = recognizer.color or outputs.video is not None
    if isinstance(source, Path) and _is_image(source):
        image = read_image(source, gray=not color, max_pixels=max_pixels)
        outputs.add(source, image, recognizer.predict_image(image))
        return
    total, rate = _length_and_rate(source)
    stream = recognizer.stream()
    answers: Iterable[tuple[NDArray, list[FacePrediction]]]
    if isinstance(source, int):
        answers = ((frame, stream.step(frame, time)) for time, frame in _camera(source))
    else:
        answers = stream.run(read_frames(source, gray=not color))
    n_read = 0
    shown: list[FacePrediction] = []
    progress = tqdm(
        answers,
        printable(str(source)),
        total=total,
        unit="frame",
        disable=None,
        smoothing=0.1,
    )
    for frame, predictions in progress:
        n_read += 1
        shown = predictions or shown
        outputs.add(source, frame, predictions, rate, shown)
    if total and n_read < _WHOLE * total:
        print(
            f"note: {printable(str(source))} is incomplete: it declares {total} frames, "
            f"{n_read} could be read.",
            file=sys.stderr,
        )


def _length_and_rate(source: Path | int) -> tuple[int | None, float]:
    """Return the number of frames that a video declares, or None, and its frame rate."""
    import cv2

    if isinstance(source, int):
        return None, _FRAMES_A_SECOND
    video = cv2.VideoCapture(str(source))
    total = round(video.get(cv2.CAP_PROP_FRAME_COUNT))
    rate = video.get(cv2.CAP_PROP_FPS)
    video.release()
    return (total if total > 0 else None), (rate if rate > 0 else _FRAMES_A_SECOND)


def _camera(number: int) -> Iterator[tuple[float, NDArray]]:
    """Yield times and RGB frames of a camera until it stops."""
    import cv2

    camera = cv2.VideoCapture(number)
    try:
        found, frame = camera.read()
        if not found:
            raise OSError(f"camera {number} cannot be opened, or gives no image.")
        start = time.monotonic()
        while found:
            yield time.monotonic() - start, cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
            found, frame = camera.read()
    finally:
        camera.release()


def _is_image(source: Path | int) -> bool:
    return not isinstance(source, int) and source.suffix.lower() in IMAGE_SUFFIXES


def _check_writable(path: Path, inputs: Sequence[Path | int]) -> None:
    """Fail before the work, not after it, without changing an existing file."""
    if path.exists() and any(path.samefile(one) for one in inputs if isinstance(one, Path)):
        raise ValueError(f"{path}: this is an input; give the output another name.")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: this is a folder; expected a file.")
    # opening a pipe waits forever
    if path.is_fifo() or path.is_socket() or (path.is_symlink() and not path.exists()):
        raise OSError(f"{path}: this is not a file, but a pipe or a broken link.")
    existed = path.exists()
    try:
        with path.open("ab"):
            pass
    except OSError as error:
        raise OSError(f"{path}: cannot write this file: {error.strerror}.") from error
    if not existed:
        path.unlink()


def _check_video(path: str) -> None:
    """Write a small video with the same suffix to a temporary folder."""
    with TemporaryDirectory() as folder:
        trial = Path(folder, f"trial{Path(path).suffix}")
        try:
            _video_writer(trial, _FRAMES_A_SECOND, (64, 64)).release()
        except OSError:
            raise ValueError(
                f"{path}: OpenCV cannot write this kind of video; use .mp4."
            ) from None


def _video_writer(path: Path, rate: float, shape: tuple[int, ...]) -> Any:
    import cv2

    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), codec, rate, (shape[1], shape[0]))
    if not writer.isOpened():
        raise OSError(f"{path}: OpenCV cannot write this video; use .mp4.")
    return writer


def _check_plot(path: str) -> None:
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    if Path(path).suffix.lower().removeprefix(".") not in kinds:
        raise ValueError(f"{path}: the name of a plot must end in .png, .pdf or .svg.")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ferpipe.predict",
        description="Recognize expressions in images, videos or from a camera, and write a "
        "table with one row per face per frame.",
    )
    parser.add_argument(
        "model",
        help="a pretrained network, such as fer2013, or a saved model (.joblib)",
    )
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="input",
        help="files, folders, patterns, or the number of a camera",
    )
    parser.add_argument(
        "-o", "--out", help="table, .csv or .json (default: CSV to the standard output)"
    )
    parser.add_argument(
        "--video", metavar="MP4", help="write the video with boxes, wireframe and labels"
    )
    parser.add_argument(
        "--plot", metavar="PNG", help="plot scores and action units over time"
    )
    parser.add_argument(
        "--every", type=_positive, metavar="SECONDS", help="analyze one frame in this time"
    )
    parser.add_argument("--faces", choices=("all", "largest"), default="all")
    parser.add_argument("--format", choices=tuple(FORMATS), default="fex")
    parser.add_argument(
        "--detect-every",
        type=int,
        default=10,
        metavar="FRAMES",
        help="run the detector on every such frame; faces are tracked in between (default: "
        "10)",
    )
    parser.add_argument(
        "--window",
        type=int,
        metavar="FRAMES",
        help="length of the sequence for a model of sequences (default: all frames of a "
        "face if the model reads them one by one, else the last 10)",
    )
    parser.add_argument(
        "--smooth",
        type=_positive,
        metavar="SECONDS",
        help="average the scores of each face over this time",
    )
    parser.add_argument(
        "--max-pixels",
        type=int,
        default=LARGEST_IMAGE,
        metavar="N",
        help=f"do not read images with more pixels (default: {LARGEST_IMAGE:,})",
    )
    parser.add_argument(
        "--abstain",
        type=_probability,
        metavar="P",
        help="leave the label empty if no class has this probability",
    )
    parser.add_argument(
        "--neutral",
        type=_positive,
        metavar="SECONDS",
        help="assume that each face is neutral in its first seconds, and subtract its mean "
        "action units of that time",
    )
    parser.add_argument(
        "--trusted",
        action="append",
        default=[],
        metavar="NAME",
        help="a class, function or file that the model file may use although it is not on "
        "the reviewed list, such as mypackage.MyTransformer; may be given more than once",
    )
    parser.add_argument(
        "--input",
        choices=("candide",),
        help="the input of a model of numbers that has no record of it: the output of "
        "CandideFitter",
    )
    return parser


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return number


def _probability(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(
            f"expected a probability from 0 to 1, got {text!r}"
        )
    return number


if __name__ == "__main__":
    sys.exit(main())
