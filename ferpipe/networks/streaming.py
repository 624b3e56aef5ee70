"""Read a sequence one frame at a time: the state of the layers is kept, not the frames."""

from collections.abc import Callable

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from ferpipe._base import input_kind
from ferpipe._compat import validate_parameters
from ferpipe._system.threads import at_most
from ferpipe.networks.estimator import NetworkMixin
from ferpipe.sequences import FrameDeltas, PerFrame

__all__ = ["SequenceStream", "read_next", "why_not_streamed"]


def read_next(layers, features, states):
    """Read the next frame of one sequence by recurrent layers.

    Parameters
    ----------
    layers : sequence of nn.RNN, nn.GRU or nn.LSTM
        Of one direction, batch first.
    features : Tensor of shape (d,)
        The frame.
    states : sequence of Tensor, of tuple of Tensor or of None
        Of each layer, as the last call returned them; None before the first frame.

    Returns
    -------
    output : Tensor of shape (h,)
        Of the last layer.
    states : list of Tensor or of tuple of Tensor
        For the next call.
    """
    row = features[None, None]
    after = []
    for layer, state in zip(layers, states, strict=True):
        row, state = layer(row, state)
        after.append(state)
    return row[0, 0], after


def why_not_streamed(model) -> str:
    """Say why a model cannot read a sequence frame by frame.

    Parameters
    ----------
    model : estimator
        A fitted classifier of sequences.

    Returns
    -------
    reason : str
        A sentence; empty if it can: a SequenceNetwork of features that reads forwards
        only, or a Pipeline of PerFrame and FrameDeltas steps, one such network, and
        whatever classifies its embeddings.
    """
    before, network, _ = _parts(model)
    if network is None:
        names = " and ".join(type(step).__name__ for step in before)
        return f"only a SequenceNetwork has a state to keep, got {names}."
    for step in before:
        if not isinstance(step, PerFrame | FrameDeltas):
            return (
                f"{type(step).__name__} before the SequenceNetwork may need the whole "
                "sequence: only PerFrame and FrameDeltas make each frame from the past."
            )
    if network.backbone_ is not None:
        return (
            f"SequenceNetwork(backbone={network.backbone_!r}) brings the images of a "
            "sequence to mean 0 and deviation 1 as a whole, which later frames change: "
            "make features of images first, with PerFrame, and set backbone=None."
        )
    if network.bidirectional and np.size(network.hidden_size):
        return (
            "SequenceNetwork(bidirectional=True) reads backwards from the last frame, "
            "which is not known yet: fit it with bidirectional=False."
        )
    return ""


class SequenceStream:
    """One sequence that a model reads while its frames come in.

    After each frame the answer is what the model says of all frames so far; the time and
    memory that a frame takes do not grow with their number.

    Parameters
    ----------
    model : SequenceNetwork or Pipeline
        Fitted; :func:`why_not_streamed` says which models can be read so.

    Attributes
    ----------
    n_frames : int
        Frames read so far.

    Raises
    ------
    ValueError
        If the model needs the whole sequence.

    Notes
    -----
    Sums over frames are kept in double precision: from the batch's answers these differ
    by its rounding.

    Examples
    --------
    >>> import numpy as np
    >>> from ferpipe import SequenceNetwork, Training
    >>> X = np.random.default_rng(0).normal(size=(4, 5, 6))
    >>> network = SequenceNetwork(
    ...     bidirectional=False, training=Training(max_epochs=1)
    ... ).fit(X, ["anger", "fear"] * 2)
    >>> stream = network.stream()
    >>> answers = [stream.step(frame) for frame in X[0]]
    >>> bool(np.allclose(answers[-1], network.predict_proba(X[:1])[0], atol=1e-6))
    True
    """

    def __init__(self, model):
        check_is_fitted(model)
        reason = why_not_streamed(model)
        if reason:
            raise ValueError(f"This model cannot be read frame by frame: {reason}")
        before, self._network, after = _parts(model)
        validate_parameters(self._network)
        self.n_frames = 0
        self._before = [_frame_by_frame(step) for step in before]
        self._classify = _decision_of(after)
        self._module = self._network.inference_module_
        self._states = [None] * len(self._module.recurrent)
        self._sums = {}

    def step(self, frame):
        """Read the next frame.

        Parameters
        ----------
        frame : array-like of shape (d,), (h, w) or (h, w, 3)
            As those of the sequences in fit.

        Returns
        -------
        answer : ndarray of shape (n_classes,), or float
            Of all frames so far, as ``predict_proba`` gives it for a sequence, or
            ``decision_function`` if the model has no probabilities.

        Raises
        ------
        TypeError, ValueError
            If it is no frame as in fit.
        """
        frame = np.asarray(frame)
        for step in self._before:
            frame = step(frame)
        embeddings, scores = self._read(frame)
        self.n_frames += 1
        if self._classify is not None:
            return self._classify(embeddings[None])[0]
        is_margin = self._network.loss == "squared_hinge" and len(scores) == 2
        return scores[1] - scores[0] if is_margin else scores

    def _read(self, frame):
        """Return the embeddings and scores of all frames so far."""
        import torch

        from ferpipe.networks.modules import decide

        network, module = self._network, self._module
        (sequence,) = network._check_frames([frame[None]], reset=False)
        features = torch.from_numpy(np.asarray(sequence, np.float32))
        with torch.inference_mode(), at_most(1):
            row = module.backbone(features.to(network.net_.device))[0]
            if len(module.recurrent):
                row, self._states = read_next(module.recurrent, row, self._states)
            if network.pooling == "mean":
                row = self._mean_so_far("rows", row).float()
            embeddings = module.head(row[None])
            scores = decide(module.output(embeddings) / network.temperature_, network.loss)[
                0
            ]
            embeddings = embeddings[0]
            if network.pooling == "per_frame":
                embeddings = self._mean_so_far("embeddings", embeddings)
                scores = self._mean_so_far("scores", scores)
        return embeddings.float().cpu().numpy(), scores.float().cpu().numpy()

    def _mean_so_far(self, name, values):
        self._sums[name] = self._sums.get(name, 0) + values.double()
        return self._sums[name] / (self.n_frames + 1)


def _parts(model):
    """Return the steps before the network, the network or None, and those behind it."""
    steps = [model]
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps if step not in (None, "passthrough")]
    places = [
        index
        for index, step in enumerate(steps)
        if isinstance(step, NetworkMixin) and input_kind(step) == "sequences"
    ]
    if not places:
        return steps, None, []
    return steps[: places[0]], steps[places[0]], steps[places[0] + 1 :]


def _frame_by_frame(step) -> Callable:
    """Return what a step makes of the next frame, as a function of it."""
    if isinstance(step, PerFrame):
        return lambda frame: step.transform([frame[None]])[0][0]
    reference = None

    def differ(frame):
        nonlocal reference
        frames = [frame] if reference is None else [reference, frame]
        differences = step.transform([np.stack(frames)])[0][-1]
        if reference is None or step.reference == "previous":
            reference = frame
        return differences

    return differ


def _decision_of(steps):
    """Return what the steps behind the network make of its embeddings; None without any."""
    if not steps:
        return None
    model = Pipeline([(str(index), step) for index, step in enumerate(steps)])
    has_probabilities = hasattr(model, "predict_proba")
    return model.predict_proba if has_probabilities else model.decision_function
