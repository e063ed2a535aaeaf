"""Export a trained model to files that run without lso: ONNX for any runtime, or ``.pt2`` for PyTorch alone.

Encoder and decoder become one file each, beside a ``model.json`` that says what goes in and comes out. What the files
compute is compared with the model before they are kept.
"""

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from lso.tasks.training.experiment import load
from lso.vae.checkpoint import pack_model
from lso.vae.config.components import SemiAmortized, component_card
from lso.vae.errors import LsoError, UsageError
from lso.vae.models.user_module import copy_network
from lso.vae.models.vae import VAE
from lso.vae.protocols import Likelihood
from lso.vae.runs import Run, output_folder
from lso.vae.utils.files import replace_file, replace_json, whole_folder
from lso.vae.utils.integrity import digest
from lso.vae.utils.random import generator
from lso.vae.utils.trust import Trust
from lso.vae.utils.validation import convert
from lso.vae.vocabulary import END, PAD, SPECIALS, START

ExportFormat = Literal["onnx", "pt2"]
CARD = "model.json"
CARD_FORMAT = 1  # of model.json
CHECKED_CODES = 100
# Largest difference from the model that is accepted, as a share of the largest value of the output. Runtimes sum in
# another order, which in single precision made up to 1.4e-6 over all architectures (docs/log.md).
TOLERANCE = 1e-4
ENDS = ("inputs", "outputs")
EXAMPLES = 3  # data in the batch that is traced; any number above 1, which tracing would take for a constant
Inputs = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartDifference:
    """How far an exported output is from the model's own, at worst over all checks."""

    part: str  # encoder or decoder
    output: str
    absolute: float  # largest |difference|, in the unit of the output
    relative: float  # the same as a share of the largest |value|


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """The files of an exported model.

    Args:
        folder: where they are.
        card: the content of model.json: names, shapes and meaning of inputs and outputs, the tokens of text, hashes.
        differences: of each output from the model's own.
    """

    folder: Path
    card: Mapping[str, Any]
    differences: tuple[PartDifference, ...]

    @property
    def files(self) -> list[Path]:
        """The files of the networks, the encoder's first, and model.json."""
        parts = [self.card[part] for part in ("encoder", "decoder")]
        return [self.folder / part["file"] for part in parts if "file" in part] + [self.folder / CARD]


def export(
    run: str | Path | Run | VAE, to: ExportFormat = "onnx", *, out: str | Path | None = None, trust: Trust = False
) -> ExportedModel:
    """Write a trained model to files that run without lso, and check that they compute the same.

        encoder: x -> mean, log_var of q(z|x);  decoder: z -> the parameters of p(x|z), and its mean;
        an autoregressive decoder: (z, x) -> the parameters of each pixel or token, given those of x before it.

    The batch is a dynamic axis, and so is the length of sequences. The files are compared with the model on 100 codes:
    the posterior means of validation data where the run has as many, else draws from the prior.

    Args:
        run: the run, its folder, a model.safetensors file, or a model.
        to: ``"onnx"``, run by onnxruntime and others, or ``"pt2"``, read by `torch.export.load`.
        out: folder to write; None is ``export/onnx`` or ``export/pt2`` in the run folder (of ``zoo:NAME`` in
            ``runs/zoo-NAME``), where files of an earlier export are replaced.
        trust: whether a module of the user's own that the run names may be imported, if ``run`` is a path.
    Returns:
        The folder, the content of its model.json, and the differences.
    Raises:
        UsageError: for an unknown format, or a model or file without ``out``.
        RunError: if there is no model or the file is damaged.
        LsoError: if the packages of the format are not installed, the model cannot be traced, or an output differs by
            more than 1e-4 of its largest value; nothing is written then.
    """
    convert(to, ExportFormat, "to")
    _require_packages(to)
    origin = run if isinstance(run, Run) else None
    if isinstance(run, str | Path) and not Path(run).is_file():
        origin = Run(run, trust=trust)
    if out is None and origin is None:
        raise UsageError("a model that is not in a run folder has no place for its files", "Name a folder: out=....")
    model = run if isinstance(run, VAE) else load(run if origin is None else origin, trust=trust)
    folder = Path(out) if out is not None else output_folder(cast(Run, origin)) / "export" / to
    model = _frozen_copy(model)
    codes = _codes_to_check(model, origin)
    parts = {part.name: part for part in _traceable_parts(model, codes)}
    with tempfile.TemporaryDirectory() as scratch:
        found = {name: _export_part(part, to, Path(scratch) / f"{name}.{to}") for name, part in parts.items()}
        contents = {f"{name}.{to}": (Path(scratch) / f"{name}.{to}").read_bytes() for name in found}
    differences = tuple(difference for each in found.values() for difference in each)
    card = _card(model, origin, to, parts, contents, differences)
    with whole_folder(folder) as half:
        for name, content in contents.items():
            replace_file(half / name, content)
        replace_json(half / CARD, card, indent=1)
    return ExportedModel(folder=folder, card=card, differences=differences)


def _require_packages(to: ExportFormat) -> None:
    needed = ("onnx", "onnxscript", "onnxruntime") if to == "onnx" else ()
    if missing := [name for name in needed if find_spec(name) is None]:
        raise LsoError(
            f"exporting to {to} needs the packages {', '.join(needed)}; not installed: {', '.join(missing)}",
            "Install them: pip install 'lso[export]' (--to pt2 needs PyTorch alone)",
        )


def _frozen_copy(model: VAE) -> VAE:
    """A copy on the CPU, all of whose modules are in eval mode, the LSTMs too (see `lso.vae.models.lstm.Lstm`)."""
    twin = copy_network(model).cpu().requires_grad_(False)
    for module in twin.modules():
        module.training = False
    return twin


def _codes_to_check(model: VAE, run: Run | None) -> Tensor:
    """100 codes: posterior means of the run's validation data if it has as many, else draws from the prior."""
    kept = run.codes() if run is not None and model.latent_dim else None
    if kept is not None and len(kept.mean) >= CHECKED_CODES:
        return kept.mean[:CHECKED_CODES].to(next(model.parameters()))
    noise = torch.randn(CHECKED_CODES, model.latent_dim, generator=generator(0, "export/codes"))
    return model.prior.sample(noise.to(next(model.parameters())))


# --- the two networks, with tensors in and tensors out ----------------------------------------------------------------


class EncoderOutputs(nn.Module):
    """An encoder that gives mean and log-variance as two tensors."""

    outputs = ("mean", "log_var")

    def __init__(self, model: VAE) -> None:
        super().__init__()
        self.network = model.encoder
        if not list(model.encoder.parameters()):  # a module of the user's own, which stands in the decoder
            self.module = model.decoder

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a batch."""
        q = self.network(x)
        return q.mean, q.log_var


class DecoderOutputs(nn.Module):
    """A decoder that gives the parameters of its likelihood as tensors, named by ``outputs``.

    Its inputs are the codes and, where it is autoregressive, the data that each pixel or token is predicted from. A
    model without latents has the data alone. Images that are decoded from codes alone come with their mean.
    """

    def __init__(self, model: VAE, example: Likelihood) -> None:
        super().__init__()
        self.network, self.latent_dim = model.decoder, model.latent_dim
        # What the decoder read stands in the likelihood of sequences, too; it is no parameter.
        parameters = [one.name for one in fields(cast(Any, example)) if one.name != "forced"]
        mean = [] if model.autoregressive or "mean" in parameters else ["mean"]
        self.outputs = (*parameters, *mean)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Decode a batch."""
        z, *data = inputs if self.latent_dim else (inputs[0].new_zeros(inputs[0].shape[0], 0).float(), *inputs)
        likelihood = self.network(z, *data)
        return tuple(getattr(likelihood, name) for name in self.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceablePart:
    """A network to export, and the batches on which it is checked, the first of them whole."""

    name: str
    network: nn.Module
    inputs: Mapping[str, str]  # name -> what it is
    axes: tuple[Mapping[int, str], ...]  # of each input, the dynamic axes
    batches: Sequence[Inputs] = field(repr=False)

    @property
    def outputs(self) -> tuple[str, ...]:
        return cast(tuple[str, ...], self.network.outputs)


def _traceable_parts(model: VAE, codes: Tensor) -> Iterator[TraceablePart]:
    """The parts of a model that can be exported: the encoder if it has one, and the decoder."""
    data = _data_to_check(model, codes)
    what = "pixels in [0, 1]"
    axes: dict[int, str] = {0: "batch"}
    if model.kind == "sequence":
        what = "token numbers: start, tokens, end, then padding; see `tokens`"
        axes[1] = "length"
    if model.has_encoder:
        yield TraceablePart(
            name="encoder",
            network=EncoderOutputs(model),
            inputs={"x": what},
            axes=(axes,),
            batches=[(x,) for x in data],
        )
    inputs = {"z": "codes; the prior is a standard normal"} if model.latent_dim else {}
    if model.autoregressive or model.kind == "sequence":
        inputs["x"] = f"{what}; each is predicted from those before it" if model.autoregressive else what
    batches = [tuple({"z": codes[: len(x)], "x": x}[name] for name in inputs) for x in data]
    with torch.no_grad():
        example = model.decode(codes[:EXAMPLES], data[0][:EXAMPLES])
    yield TraceablePart(
        name="decoder",
        network=DecoderOutputs(model, example),
        inputs=inputs,
        axes=tuple({"z": {0: "batch"}, "x": axes}[name] for name in inputs),
        batches=batches,
    )


def _data_to_check(model: VAE, codes: Tensor) -> list[Tensor]:
    """Data for as many codes, for a single one, and for a few of another length where they are sequences.

    Images are what the decoder makes of the codes. Those of autoregressive decoders and sequences, which take long to
    draw, are random pixels and tokens.
    """
    count, stream = len(codes), generator(0, "export/data")
    if model.kind == "image":
        if model.autoregressive:
            x = torch.bernoulli(torch.rand(count, *model.shape, generator=stream), generator=stream).to(codes)
        else:
            with torch.no_grad():
                x = model.reconstruct(codes)
        return [x, x[:1]]
    longest, words = model.shape
    x = torch.randint(len(SPECIALS), words, (count, longest), generator=stream)
    ends = torch.randint(1, longest, (count, 1), generator=stream)
    ends[0] = longest - 1
    places = torch.arange(longest)
    x = torch.where(places == 0, START, torch.where(places < ends, x, torch.where(places == ends, END, PAD)))
    shorter = x[1:6, : max(3, longest // 2)].clone()
    shorter[:, -1] = torch.where(shorter[:, -1] == PAD, PAD, END)
    return [x, x[:1], shorter]


# --- writing and checking ---------------------------------------------------------------------------------------------


def _export_part(part: TraceablePart, to: ExportFormat, path: Path) -> list[PartDifference]:
    """Trace a network, write it to a file, and return how far what is read from there is from it."""
    try:
        with _silence(), torch.no_grad(), _dynamic_lstms():
            program = _trace(part)
            if to == "pt2":
                torch.export.save(program, path)
            else:
                _write_onnx(part, program, path)
            compute = _open_pt2(path) if to == "pt2" else _open_onnx(path)
            return _differences(part, compute)
    except LsoError:
        raise
    except Exception as error:  # torch raises many kinds, and a user's network may hold anything
        line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LsoError(
            f"the {part.name} cannot be exported to {to}: {line[:300]}",
            "torch.export traces tensor operations only: no branches on values and no other libraries.",
        ) from error


def _trace(part: TraceablePart) -> Any:
    """The network as a graph of tensor operations, whose dynamic axes may have any size."""
    example = tuple(value[:EXAMPLES] for value in part.batches[0])
    try:
        return torch.export.export(part.network, example, dynamic_shapes=_dynamic_shapes(part), strict=False)
    except Exception as error:
        # By running it `len(z)` in a module of the user's own is a constant. Reading its bytecode tells better, and
        # takes longer.
        with suppress(Exception):
            return torch.export.export(part.network, example, dynamic_shapes=_dynamic_shapes(part), strict=True)
        raise error


def _dynamic_shapes(part: TraceablePart) -> Any:
    # One mapping for all of ``*inputs``, or one for each named input.
    dynamic = torch.export.Dim.DYNAMIC
    shapes = tuple(dict.fromkeys(axes, dynamic) for axes in part.axes)
    return (shapes,) if isinstance(part.network, DecoderOutputs) else shapes


@contextmanager
def _dynamic_lstms() -> Iterator[None]:
    """Trace LSTMs without unrolling them over the length of the example, as torch's ONNX exporter does."""
    try:
        from torch.export._patches import register_lstm_while_loop_decomposition as loop
    except ImportError:  # an earlier torch, which exports all but LSTMs
        yield
        return
    cache = cast(Any, torch.ops.aten.lstm.input)._dispatch_cache  # would keep the kernel that was used before
    with loop():
        cache.clear()
        try:
            yield
        finally:
            cache.clear()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep warnings and log lines of torch's exporters, on details of their own, from the user."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_onnx(part: TraceablePart, program: Any, path: Path) -> None:
    written = torch.onnx.export(
        program,
        input_names=list(part.inputs),
        output_names=list(part.outputs),
        dynamo=True,
        verbose=False,
    )
    assert written is not None
    graph = written.model.graph
    for value, axes in zip(graph.inputs, part.axes, strict=True):
        for axis, name in axes.items():
            assert value.shape is not None
            _rename_axis(graph, str(value.shape[axis]), name)
    written.save(path, external_data=False)


def _rename_axis(graph: Any, old: str, new: str) -> None:
    """Give a dynamic axis, which tracing numbered, a name in the inputs and outputs of an ONNX graph."""
    for value in (*graph.inputs, *graph.outputs):
        for axis, size in enumerate(value.shape or ()):
            if str(size) == old:
                value.shape[axis] = new


Compute = Callable[[Inputs], Sequence[Tensor]]


def _open_pt2(path: Path) -> Compute:
    run = torch.export.load(path).module()
    return lambda inputs: run(*inputs)


def _open_onnx(path: Path) -> Compute:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]

    def compute(inputs: Inputs) -> list[Tensor]:
        arrays = {name: value.numpy() for name, value in zip(names, inputs, strict=True)}
        return [torch.from_numpy(value) for value in session.run(None, arrays)]

    return compute


def _differences(part: TraceablePart, compute: Compute) -> list[PartDifference]:
    """The largest differences of each output over all batches; an error where one is beyond the tolerance."""
    absolute, size = dict.fromkeys(part.outputs, 0.0), dict.fromkeys(part.outputs, 0.0)
    for inputs in part.batches:
        for name, own, other in zip(part.outputs, part.network(*inputs), compute(inputs), strict=True):
            if own.shape != other.shape:
                raise LsoError(
                    f"the exported {part.name} gives {name} of shape {tuple(other.shape)}, expected {tuple(own.shape)}",
                    "This is a bug of lso or of the exporter; nothing was written.",
                )
            absolute[name] = max(absolute[name], float((own - other).abs().max()))
            size[name] = max(size[name], float(own.abs().max()))
    found = [
        PartDifference(part=part.name, output=name, absolute=value, relative=value / (size[name] or 1.0))
        for name, value in absolute.items()
    ]
    worst = max(found, key=lambda one: one.relative)
    if not worst.relative <= TOLERANCE:  # NaN fails too
        raise LsoError(
            f"the exported {part.name} differs from the model: {worst.output} by {worst.absolute:.2g}, "
            f"{worst.relative:.2g} of its largest value, expected at most {TOLERANCE:g}",
            "Nothing was written. Another version of torch or of the runtime may compute it right.",
        )
    return found


def _card(
    model: VAE,
    run: Run | None,
    to: ExportFormat,
    parts: Mapping[str, TraceablePart],
    contents: Mapping[str, bytes],
    differences: Sequence[PartDifference],
) -> dict[str, Any]:
    """The content of model.json."""
    trained = {} if run is None else {"method": run.config.method.name, "data": run.config.data.task}
    made_by = f"lso {_lso_version()}, torch {torch.__version__}"
    if to == "onnx":
        made_by += f", onnx {version('onnx')}"
    card: dict[str, Any] = {
        "format": CARD_FORMAT,
        "made_by": made_by,
        **trained,
        "kind": model.kind,
        "shape": list(model.shape),
        "latent_dim": model.latent_dim,
        "autoregressive": model.autoregressive,
        "likelihood": model.architecture.likelihood,
        "architecture": {**asdict(model.architecture), "skip": model.skip},
        "prior": component_card(model.prior_family),
        "weights_sha256": digest(pack_model(model, model.state_dict())),
    }
    for name in ("encoder", "decoder"):
        card[name] = _part_card(parts[name], to, contents) if name in parts else {"missing": _no_encoder(model)}
    if isinstance(model.inference, SemiAmortized):
        card["encoder"]["note"] = "the first guess of the posterior, which in lso gradient steps then refine"
    if model.vocabulary is not None:
        card["tokens"] = {
            "list": list(model.vocabulary.tokens),
            "joiner": model.vocabulary.joiner,
            "padding": PAD,
            "start": START,
            "end": END,
        }
    card["checked"] = {
        "codes": CHECKED_CODES,
        "tolerance": TOLERANCE,
        "differences": [asdict(one) for one in differences],
    }
    return card


def _no_encoder(model: VAE) -> str:
    if not model.latent_dim:
        return "the model has no latents"
    return "the method has no encoder: it computes posteriors by gradient steps"


def _lso_version() -> str:
    from lso import __version__

    return __version__


def _part_card(part: TraceablePart, to: ExportFormat, contents: Mapping[str, bytes]) -> dict[str, Any]:
    file, inputs = f"{part.name}.{to}", part.batches[0]
    named = zip(part.inputs.items(), inputs, part.axes, strict=True)
    outputs = zip(part.outputs, part.network(*inputs), strict=True)
    return {
        "file": file,
        "sha256": digest(contents[file]),
        "inputs": [
            {
                "name": name,
                "dtype": _dtype(value),
                "shape": [axes.get(axis, size) for axis, size in enumerate(value.shape)],
                "what": what,
            }
            for (name, what), value, axes in named
        ],
        "outputs": [
            {"name": name, "dtype": _dtype(value), "shape": _output_shape(part, value), "what": MEANINGS[name]}
            for name, value in outputs
            if name in MEANINGS
        ],
    }


MEANINGS: Mapping[str, str] = {
    "mean": "expected values: of q(z|x), or of the image's pixels given the codes",
    "log_var": "log of the variances of q(z|x)",
    "logits": "p = sigmoid(logits) of each pixel being 1; of sequences softmax over the last axis, of the next token",
    "log_scale": "log of the scale of each channel: a standard deviation (gaussian), or that of a logistic",
}


def describe_part(done: ExportedModel, part: str) -> list[str]:
    """A part as a row of a table: its name, file, size, inputs and outputs."""
    card = done.card[part]
    size = (done.folder / card["file"]).stat().st_size
    ends = ["  ".join(f"{one['name']} ({', '.join(map(str, one['shape']))})" for one in card[key]) for key in ENDS]
    return [part, card["file"], f"{size / 1e6:z.2f} MB", *ends]


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def _output_shape(part: TraceablePart, value: Tensor) -> list[int | str]:
    """The shape of an output with its dynamic axes named; the logits of sequences are one fewer than their tokens."""
    shape: list[int | str] = list(value.shape)
    if shape[0] == CHECKED_CODES:
        shape[0] = "batch"
    if any("length" in axes.values() for axes in part.axes) and part.name == "decoder":
        shape[1] = "length - 1"
    return shape
