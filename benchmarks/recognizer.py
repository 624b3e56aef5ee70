"""Frames a second of the Recognizer, and where the time goes; needs FERPIPE_DATA.

``python benchmarks/recognizer.py`` reads single_face.mp4 from end to end, with faces
followed between looks of the detector and with a look at each frame, in alternating rounds;
the best of each counts. ``--model FILE`` takes a saved model instead of the network of
random weights, ``--rounds N`` more or fewer rounds. The processor's seconds are those of
all threads: on a machine that others use they tell more than the clock.

``--minutes N`` instead plays the clip over and over, for N minutes of video, through all
that ``python -m ferpipe.predict -o FILE --plot FILE`` does, and prints the resident memory
on the way; the first pass warms up. Linux only.
"""

import argparse
import os
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ferpipe import ImageNetwork, Training, model_input
from ferpipe.candide.fit_cascade import WireframeCascade
from ferpipe.faces.landmark_cascade import PointCascade
from ferpipe.io.videos import read_frames
from ferpipe.networks.streaming import SequenceStream
from ferpipe.recognition import stream as streaming
from ferpipe.recognition.drawing import Curves
from ferpipe.recognition.recognizer import Recognizer
from ferpipe.recognition.tables import RowWriter, fex_row

SETTINGS = {
    "with tracking": {"detect_every": 10},
    "without": {"detect_every": 1},
    "without, from 80 pixels": {"detect_every": 1, "min_size": 80},
    "without, largest face": {"detect_every": 1, "faces": "largest"},
}


def main():
    """Run the program; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a saved model, or a network that ships")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, help="of video, for the memory in use")
    options = parser.parse_args()
    if "FERPIPE_DATA" not in os.environ:
        print("error: FERPIPE_DATA must name the folder of the data.", file=sys.stderr)
        return 2
    video = Path(os.environ["FERPIPE_DATA"], "media", "single_face.mp4")
    model = options.model or random_network()
    if options.minutes:
        print(f"{'minute':>8}{'frames':>9}{'resident MiB':>14}")
        for minute, n_frames, memory in memory_over_time(
            Recognizer(model, neutral=3.0, smoothing=0.3), video, options.minutes
        ):
            print(f"{minute:>8.1f}{n_frames:>9}{memory / 2**20:>14.1f}", flush=True)
        return 0
    recognizers = {name: Recognizer(model, **SETTINGS[name]) for name in SETTINGS}
    clock, processor = frames_a_second(recognizers, video, options.rounds)
    print(f"{'frames a second':<24}{'clock':>8}{'processor':>11}")
    for name in recognizers:
        print(f"{name:<24}{clock[name]:>8.1f}{processor[name]:>11.1f}")
    for name in recognizers:
        print(f"\n{name}, ms a frame of the clock")
        parts = time_of_parts(recognizers[name], video)
        for part in parts:
            print(f"  {part:<22}{parts[part]:>7.2f}")
    return 0


def random_network():
    """Return a small network that knows nothing: it takes the time of one that does."""
    crops = np.random.default_rng(0).integers(0, 256, (14, 48, 48), dtype=np.uint8)
    labels = ["anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise"]
    return ImageNetwork(training=Training(max_epochs=1), random_state=0).fit(
        crops, labels * 2
    )


def frames_a_second(recognizers, video, rounds):
    """Return the best of alternating rounds, by the clock and by the processor's time."""
    clock, processor = (dict.fromkeys(recognizers, 0.0) for _ in range(2))
    for _ in range(rounds):
        for name, recognizer in recognizers.items():
            starts = time.perf_counter(), time.process_time()
            n_frames = len({row.frame for row in recognizer.predict_video(video)})
            ends = time.perf_counter(), time.process_time()
            clock[name] = max(clock[name], n_frames / (ends[0] - starts[0]))
            processor[name] = max(processor[name], n_frames / (ends[1] - starts[1]))
    return clock, processor


def memory_over_time(recognizer, video, minutes):
    """Yield minute, frames and resident bytes, after the first pass and eight times."""
    stream, curves = recognizer.stream(), Curves()
    n_frames, start, shown = 0, 0.0, None
    with Path(os.devnull).open("w", encoding="utf-8") as file:
        writer = RowWriter(file, "csv")
        while start < 60 * minutes:
            for time_in_clip, frame in read_frames(video):
                moment = start + time_in_clip
                rows = stream.step(frame, moment)
                for row in rows:
                    writer.write(fex_row(row))
                curves.add(rows)
                n_frames += 1
            start = moment + 1 / 25
            eighth = int(8 * start / (60 * minutes))
            if eighth != shown:
                shown = eighth
                yield start / 60, n_frames, resident_bytes()


def resident_bytes():
    """Return the memory of this process that is in use."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def time_of_parts(recognizer, video):
    """Return milliseconds a frame of each part of the work."""
    spent: dict[str, float] = {}
    with (
        timed(streaming, "detect_faces", "detector", spent),
        timed(PointCascade, "predict", "landmarks of finds", spent),
        timed(WireframeCascade, "from_landmarks", "wireframe, quality", spent),
        timed(model_input, "align_face", "crop", spent),
        timed(streaming, "_predict_scores", "model", spent),
        timed(SequenceStream, "step", "model", spent),
    ):
        start = time.perf_counter()
        n_frames = len({row.frame for row in recognizer.predict_video(video)})
        whole = time.perf_counter() - start
    start = time.perf_counter()
    for _ in read_frames(video):
        pass
    spent["reading the video"] = time.perf_counter() - start
    spent["rest: following, rows"] = whole - sum(spent.values())
    spent["all"] = whole
    return {part: 1000 * seconds / n_frames for part, seconds in spent.items()}


@contextmanager
def timed(owner, name, part, spent):
    """Add up the time of a function while it is watched."""
    function = getattr(owner, name)
    spent[part] = 0.0

    def watched(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[part] += time.perf_counter() - start

    setattr(owner, name, watched)
    try:
        yield
    finally:
        setattr(owner, name, function)


if __name__ == "__main__":
    sys.exit(main())
