"""Flags: what there are, their defaults, and what goes together."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from dgm_core.data import PROTOCOLS, names
from dgm_core.results import read_json
from dgm_core.training import checkpoint

MODELS = ("vae", "conv_vae")
POSTERIORS = {
    "diagonal": "DiagonalNormal",
    "low_rank": "LowRankNormal",
    "full_rank": "FullRankNormal",
    "householder": "Householder",
    "planar": "Planar",
    "sylvester": "Sylvester",
    "iaf": "IAF",
}
PRIORS = {"standard": "StandardNormal", "mixture": "MixturePrior", "maf": "MAF"}
LIKELIHOODS = {
    "bernoulli": "Bernoulli",
    "continuous_bernoulli": "ContinuousBernoulli",
    "normal": "Normal",
    "student_t": "StudentT",
    "beta": "Beta",
    "kumaraswamy": "Kumaraswamy",
    "logit_normal": "LogitNormal",
    "discretized_logistic": "DiscretizedLogisticMixture",
}
LOSSES = {"elbo": ("reparam", "stl", "score"), "iwae": ("reparam", "dreg")}

DEFAULTS: dict[str, Any] = {
    "data": "digits",
    "hidden": None,
    "z_dim": 8,
    "posterior": "diagonal",
    "prior": "standard",
    "likelihood": None,
    "binarize": None,
    "loss": "elbo",
    "estimator": "reparam",
    "beta": 1.0,
    "warmup": 0,
    "num_particles": None,
    "epochs": 300,
    "batch_size": 128,
    "learning_rate": 1e-3,
    "patience": None,
    "seed": 0,
    "device": None,
    "eval_particles": 512,
    "eval_data": 1000,
}
_MAY_CHANGE = (
    "epochs",
    "patience",
    "device",
    "eval_particles",
    "eval_data",
)  # when a run is resumed


class UsageError(Exception):
    """Flags or files that the user can put right; shown as one line, exit status 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def build_parser(backend_name: str) -> argparse.ArgumentParser:
    """The parser of `python -m <backend_name>`. Flags that are not given stay None;
    `read_arguments` fills in the defaults.

    Example:
        >>> build_parser("pyro_dgm").parse_args(["fit", "vae", "--hidden", "200,100"]).hidden
        (200, 100)
    """
    parser = _Parser(
        prog=f"python -m {backend_name}",
        description="Train and compare deep generative models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{fit,list,compare}")

    fit = commands.add_parser("fit", help="train a model and evaluate it", allow_abbrev=False)
    fit.add_argument("model", choices=MODELS, help="fully connected, or convolutional for images")
    model = fit.add_argument_group("model and data")
    _add(model, "--data", choices=names(), metavar="NAME", help="data set, see the command list")
    _add(
        model,
        "--hidden",
        type=_sizes,
        metavar="N,N",
        help=(
            "sizes of the hidden layers, channels of the convolutions for conv_vae (200,200; 32,64)"
        ),
    )
    _add(model, "--z-dim", type=_size, metavar="N", help="dimension of the latent space")
    _add(model, "--posterior", choices=POSTERIORS, help="q(z | x)")
    _add(model, "--prior", choices=PRIORS, help="p(z)")
    _add(
        model,
        "--likelihood",
        choices=LIKELIHOODS,
        help="p(x | z) (bernoulli for images, normal for real numbers)",
    )
    _add(
        model,
        "--binarize",
        choices=PROTOCOLS,
        help="how gray levels become binary for bernoulli (threshold for digits, else dynamic)",
    )

    training = fit.add_argument_group("training")
    _add(training, "--loss", choices=LOSSES, help="bound that is maximized")
    _add(
        training,
        "--estimator",
        choices=sorted({name for names in LOSSES.values() for name in names}),
        help="of its gradient",
    )
    _add(training, "--beta", type=_nonnegative, metavar="B", help="weight of the KL part (elbo)")
    _add(
        training,
        "--warmup",
        type=_count_or_zero,
        metavar="EPOCHS",
        help="raise the weight of the KL part from 0 over so many epochs (elbo)",
    )
    _add(
        training,
        "--num-particles",
        type=_size,
        metavar="K",
        help="draws of z per datum (1 for elbo, 10 for iwae)",
    )
    _add(training, "--epochs", type=_count, metavar="N", help="passes through the data")
    _add(training, "--batch-size", type=_count, metavar="N", help="data per step")
    _add(training, "--learning-rate", type=_positive, metavar="R", help="of Adam")
    _add(
        training,
        "--patience",
        type=_count,
        metavar="EPOCHS",
        help="stop after so many epochs without a better validation bound (never)",
    )
    _add(training, "--seed", type=_seed, metavar="N", help="of weights, batches and noise")
    _add(training, "--device", metavar="NAME", help="where to run (the backend's default)")

    results = fit.add_argument_group("results")
    _add(
        results,
        "--eval-particles",
        type=_size,
        metavar="K",
        help="importance weights per datum for the table",
    )
    _add(
        results,
        "--eval-data",
        type=_count_or_zero,
        metavar="N",
        help="test data that are evaluated at most, 0 for all",
    )
    results.add_argument(
        "--output",
        type=_folder,
        metavar="FOLDER",
        help="where the results go (runs/MODEL-DATA-BACKEND)",
    )
    results.add_argument(
        "--resume", action="store_true", help="go on with the run in FOLDER, with its own flags"
    )
    results.add_argument("--quiet", action="store_true", help="no progress line")

    commands.add_parser("list", help="data sets, models and their parts", allow_abbrev=False)
    compare = commands.add_parser("compare", help="one table of finished runs", allow_abbrev=False)
    compare.add_argument(
        "folders", nargs="+", type=_folder, metavar="FOLDER", help="output folders of fit"
    )
    return parser


def read_arguments(backend_name: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parsed flags with defaults filled in, those of a resumed run from its `config.json`.

    Raises:
        UsageError: for unknown flags, bad values, flags that do not go together or differ from
            those of the resumed run, and an output folder that is taken or, with --resume, empty.
    """
    arguments = build_parser(backend_name).parse_args(argv)
    if arguments.command != "fit":
        return arguments
    given = {name: value for name in DEFAULTS if (value := getattr(arguments, name)) is not None}
    settings = {**DEFAULTS, **given}
    short = backend_name.removesuffix("_dgm")
    arguments.output = (
        arguments.output or Path("runs") / f"{arguments.model}-{settings['data']}-{short}"
    )
    config = arguments.output / "config.json"
    if arguments.resume:
        settings = _resumed(config, backend_name, arguments.model, given)
    elif checkpoint.exists(arguments.output / "checkpoint" / "last.npz"):
        raise UsageError(
            f"{arguments.output} holds a run already: add --resume to go on with it, or give "
            "another folder with --output."
        )
    for name, value in settings.items():
        setattr(arguments, name, value)
    _check(arguments)
    return arguments


def settings_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """The flags that define a run, as `config.json` keeps them."""
    return {name: getattr(arguments, name) for name in DEFAULTS}


def _resumed(config: Path, backend_name: str, model: str, given: dict[str, Any]) -> dict[str, Any]:
    if not config.exists():
        raise UsageError(
            f"There is no run to resume in {config.parent}: {config.name} is missing. Leave "
            "--resume out to start one."
        )
    try:
        stored = read_json(config)
        before = {**DEFAULTS, **_as_given(backend_name, stored["model"], stored["arguments"])}
        same = {"backend": (stored["backend"], backend_name), "model": (stored["model"], model)}
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{config} does not describe a run ({error}): restore it or start anew in another "
            "folder."
        ) from error
    same |= {
        name: (before[name], value) for name, value in given.items() if name not in _MAY_CHANGE
    }
    for name, (old, new) in same.items():
        if old != new:
            raise UsageError(
                f"The run in {config.parent} has {name} {old}, not {new}: resume it without "
                "that flag or start another one."
            )
    return {**before, **given}


def _as_given(backend_name: str, model: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a `config.json`, after they have gone through the parser as flags do."""
    if unknown := sorted(set(settings) - set(DEFAULTS)):
        raise ValueError(f"unknown settings {', '.join(unknown)}")
    words = []
    for name, value in settings.items():
        if value is not None:
            parts = value if isinstance(value, list) else [value]
            words.append(f"--{name.replace('_', '-')}={','.join(map(str, parts)) or 'none'}")
    parsed = vars(build_parser(backend_name).parse_args(["fit", str(model), *words]))
    for name, value in settings.items():
        was = list(parsed[name]) if isinstance(parsed[name], tuple) else parsed[name]
        wrong_none = value is None and DEFAULTS[name] is not None
        if wrong_none or isinstance(value, bool) or was != value:
            raise ValueError(f"{name} cannot be {value!r}")
    return {name: parsed[name] for name in settings}


def _check(arguments: argparse.Namespace) -> None:
    if arguments.estimator not in LOSSES[arguments.loss]:
        allowed = ", ".join(LOSSES[arguments.loss])
        raise UsageError(
            f"--estimator {arguments.estimator} does not go with --loss {arguments.loss}, which "
            f"takes {allowed}."
        )
    if arguments.loss != "elbo" and (arguments.beta != 1 or arguments.warmup):
        raise UsageError(
            "--beta and --warmup weight the KL part of --loss elbo; the iwae bound has none."
        )
    if arguments.binarize is not None and arguments.likelihood not in (None, "bernoulli"):
        raise UsageError(
            f"--binarize makes data for --likelihood bernoulli, not for {arguments.likelihood}."
        )


def _add(group: Any, flag: str, *, help: str, **options: Any) -> None:
    default = DEFAULTS[flag.removeprefix("--").replace("-", "_")]
    group.add_argument(flag, help=help if default is None else f"{help} ({default})", **options)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            wanted = f"a whole number of at least {least}"
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        if value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {text!r}")
        return value

    return convert


def _real(good: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not good(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        return value

    return convert


_count, _count_or_zero = _whole(1, 10**9), _whole(0, 10**9)
_size, _seed = _whole(1, 10**6), _whole(0, 2**32 - 1)
_positive = _real(lambda value: 0 < value < float("inf"), "a positive number")
_nonnegative = _real(lambda value: 0 <= value < float("inf"), "a number of at least 0")


def _folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be the path of a folder, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"must be a folder, got {text!r} ({error})") from error


def _sizes(text: str) -> tuple[int, ...]:
    """ "200,200" as sizes; "none" as no hidden layer."""
    if text == "none":
        return ()
    try:
        return tuple(_size(part) for part in text.split(","))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(
            f"must be sizes like 200,200, or none, got {text!r}"
        ) from error
