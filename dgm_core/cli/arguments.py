"""Flags: what there are, their defaults, and what goes together."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from dgm_core.cli.table import BINARY, LIKELIHOODS, LOSSES, MODELS, POSTERIORS, PRIORS
from dgm_core.data import PROTOCOLS, names
from dgm_core.results import read_json
from dgm_core.training import checkpoint


class UsageError(Exception):
    """Flags or files that the user can put right; shown as one line, exit status 2."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; see {self.prog} --help")


def _number(kind: Callable[[str], Any], good: Callable[[Any], bool], wanted: str) -> Any:
    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not good(value):
            raise argparse.ArgumentTypeError(f"must be {wanted}, got {text!r}")
        return value

    return convert


def _whole(least: int, most: int) -> Any:
    return _number(int, lambda n: least <= n <= most, f"a whole number from {least} to {most}")


_count, _count_or_zero = _whole(1, 10**9), _whole(0, 10**9)
_size, _seed = _whole(1, 10**6), _whole(0, 2**32 - 1)
_positive = _number(float, lambda x: 0 < x < float("inf"), "a positive number")
_nonnegative = _number(float, lambda x: 0 <= x < float("inf"), "a number of at least 0")


def _folder(text: str) -> Path:
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"must be the path of a folder, got {text!r}")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise argparse.ArgumentTypeError(f"must be a folder, got {text!r} ({error})") from error


def _model(text: str) -> str:
    if text not in MODELS:
        raise argparse.ArgumentTypeError(
            f"invalid choice: {text!r} is none of {', '.join(MODELS)}; all other models, such as "
            "ImageToImage, CycleGAN, BigGAN and MaskedAutoencoder, are trained by `fit` in Python"
        )
    return text


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


class _Flag(NamedTuple):
    help: str
    kind: Any  # a conversion, or what there is to choose from
    default: Any = None
    metavar: str | None = "N"


_ESTIMATORS = sorted({name for loss in LOSSES.values() for name in loss.estimators})
_GROUPS = {
    "data and model": {
        "data": _Flag("data set, see the command list (the model's own)", names(), None, "NAME"),
        "binarize": _Flag("how gray levels become binary for bernoulli", PROTOCOLS, None, None),
        "hidden": _Flag("sizes of the hidden layers, channels for images (200,200)", _sizes),
        "z_dim": _Flag("dimension of the latent space", _size, 8),
        "posterior": _Flag("q(z | x)", POSTERIORS, "diagonal", None),
        "prior": _Flag("p(z)", PRIORS, "standard", None),
        "likelihood": _Flag(
            "p(x | z) (bernoulli for images, else normal)", LIKELIHOODS, None, None
        ),
    },
    "loss": {
        "loss": _Flag("what is minimized (the model's own)", LOSSES, None, None),
        "estimator": _Flag("of the gradient of a bound", _ESTIMATORS, "reparam", None),
        "beta": _Flag("weight of the KL part (elbo)", _nonnegative, 1.0, "B"),
        "warmup": _Flag("raise it from 0 over so many epochs (elbo)", _count_or_zero, 0, "EPOCHS"),
        "num_particles": _Flag("draws of z per datum (1, for iwae 10)", _size, None, "K"),
    },
    "training": {
        "epochs": _Flag("passes through the data", _count, 300),
        "batch_size": _Flag("data per step", _count, 128),
        "learning_rate": _Flag("of Adam", _positive, 1e-3, "R"),
        "patience": _Flag("stop after so many without a better validation", _count, None, "EPOCHS"),
        "seed": _Flag("of weights, batches and noise", _seed, 0),
        "device": _Flag("where to run (the backend's default)", str, None, "NAME"),
    },
    "evaluation": {
        "eval_particles": _Flag("importance weights per datum for the table", _size, 512, "K"),
        "eval_data": _Flag("test data that are evaluated at most, 0 for all", _count_or_zero, 1000),
    },
}
FLAGS = {name: flag for group in _GROUPS.values() for name, flag in group.items()}
DEFAULTS = {name: flag.default for name, flag in FLAGS.items()}
_MAY_CHANGE = ("epochs", "patience", "device", "eval_particles", "eval_data")  # on --resume


def build_parser(backend_name: str) -> argparse.ArgumentParser:
    """The parser of `python -m <backend_name>`. Flags that are not given stay None;
    `read_arguments` fills in the defaults.

    Example:
        >>> build_parser("pyro_dgm").parse_args(["fit", "vae", "--hidden", "200,100"]).hidden
        (200, 100)
    """
    parser = _Parser(
        prog=f"python -m {backend_name}",
        description="Train, evaluate and compare deep generative models.",
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, *flags: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, allow_abbrev=False)
        for title, group in _GROUPS.items():
            if own := {name: flag for name, flag in group.items() if name in flags}:
                _add(made.add_argument_group(title), own)
        return made

    def of_a_run(name: str, help: str, *flags: str) -> argparse.ArgumentParser:
        made = command(name, help, *flags)
        made.add_argument("folder", type=_folder, metavar="RUN", help="output folder of fit")
        return made

    fit = command("fit", "train a model and evaluate it", *FLAGS)
    fit.add_argument("model", type=_model, choices=MODELS, help="see the command list")
    output = "where the results go (runs/MODEL-DATA-BACKEND)"
    fit.add_argument("--output", type=_folder, metavar="FOLDER", help=output)
    resume = "go on with the run in FOLDER, with its own flags"
    fit.add_argument("--resume", action="store_true", help=resume)
    fit.add_argument("--quiet", action="store_true", help="no progress line")

    evaluation = ("seed", *_GROUPS["evaluation"])
    of_a_run("evaluate", "evaluate a finished run again", *evaluation)
    of_a_run("report", "a finished run on one page: HTML, table, pictures, ArviZ", *evaluation)
    sample = of_a_run("sample", "draw from a finished run", "seed")
    sample.add_argument("--size", type=_size, default=64, metavar="N", help="how many (64)")
    sample.add_argument("--means", action="store_true", help="p(x | z)'s mean instead of a draw")
    compare = command("compare", "one table of finished runs")
    compare.add_argument("folders", nargs="+", type=_folder, metavar="RUN", help="folders of fit")
    command("list", "data sets, models and their parts")
    return parser


def _add(group: Any, flags: dict[str, _Flag]) -> None:
    for name, flag in flags.items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            help=flag.help if flag.default is None else f"{flag.help} ({flag.default})",
            metavar=flag.metavar,
            **{"type" if callable(flag.kind) else "choices": flag.kind},
        )


def read_arguments(backend_name: str, argv: Sequence[str]) -> argparse.Namespace:
    """Parsed flags with defaults filled in, those of a resumed, evaluated or sampled run from its
    `config.json`.

    Raises:
        UsageError: for unknown flags, bad values, flags that do not go together or differ from
            those of the resumed run, and an output folder that is taken or without a run.
    """
    arguments = build_parser(backend_name).parse_args(argv)
    if arguments.command in ("compare", "list"):
        return arguments
    given = {name: x for name in DEFAULTS if (x := getattr(arguments, name, None)) is not None}
    if arguments.command != "fit":
        arguments.model, settings = _stored(arguments.folder, backend_name)
        settings |= given
    else:
        settings = _defaults(arguments.model) | given
        name = f"{arguments.model}-{settings['data']}-{backend_name.removesuffix('_dgm')}"
        arguments.output = arguments.output or Path("runs") / name
        if arguments.resume:
            settings = _resumed(arguments.output, backend_name, arguments.model, given)
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


def _defaults(model: str) -> dict[str, Any]:
    return {**DEFAULTS, "data": MODELS[model].data, "loss": MODELS[model].losses[0]}


def _resumed(folder: Path, backend_name: str, model: str, given: dict[str, Any]) -> dict[str, Any]:
    own, before = _stored(folder, backend_name, "Leave --resume out to start one.")
    changed = {name: x for name, x in given.items() if name not in _MAY_CHANGE}
    for name, old, new in [
        ("model", own, model),
        *((name, before[name], value) for name, value in changed.items()),
    ]:
        if old != new:
            raise UsageError(
                f"The run in {folder} has {name} {old}, not {new}: resume it without that flag or "
                "start another one."
            )
    return before | given


def _stored(
    folder: Path, backend_name: str, hint: str = "Name an output folder of fit."
) -> tuple[str, dict[str, Any]]:
    """Model and settings of the run in a folder. Raises UsageError where there is none."""
    config = folder / "config.json"
    if not config.exists():
        raise UsageError(f"There is no run in {folder}: {config.name} is missing. {hint}")
    try:
        stored = read_json(config)
        model, backend = stored["model"], stored["backend"]
        settings = _as_given(backend_name, model, stored["arguments"])
    except (UsageError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(
            f"{config} does not describe a run ({in_words(error)}): restore it or start anew in "
            "another folder."
        ) from error
    if backend != backend_name:
        raise UsageError(
            f"The run in {folder} has backend {backend}, not {backend_name}: use "
            f"python -m {backend}."
        )
    return model, settings


def in_words(error: Exception) -> str:
    """What is wrong with what a file holds.

    Example:
        >>> in_words(KeyError("model"))
        "'model' is missing"
    """
    if isinstance(error, KeyError):
        return f"{error} is missing"
    if isinstance(error, TypeError | AttributeError):
        return "some of it is of another kind"
    return str(error).rstrip(".")


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
    return _defaults(model) | {name: parsed[name] for name in settings if parsed[name] is not None}


def _check(arguments: argparse.Namespace) -> None:
    """Raises UsageError for flags that do not go with the model, its loss or each other."""
    model, loss = MODELS[arguments.model], LOSSES[arguments.loss]
    if arguments.loss not in model.losses:
        allowed = ", ".join(model.losses)
        raise UsageError(
            f"--loss {arguments.loss} does not go with {arguments.model}, which takes {allowed}."
        )
    if arguments.estimator not in loss.estimators:
        raise UsageError(
            f"--estimator {arguments.estimator} does not go with --loss {arguments.loss}, which "
            f"takes {', '.join(loss.estimators)}."
        )
    takers: Any = ((f"--loss {arguments.loss}", loss, LOSSES), (arguments.model, model, MODELS))
    for name, flag in FLAGS.items():
        own = "beta" if name == "warmup" else name
        for text, taker, all_ in takers:
            used = own in taker.flags or all(own not in other.flags for other in all_.values())
            if getattr(arguments, name) != flag.default and not used:
                raise UsageError(f"--{name.replace('_', '-')} does not go with {text}.")
    if arguments.patience is not None and not model.scored:
        raise UsageError(
            f"--patience counts epochs without a better bound, and {arguments.model} has none."
        )
    if arguments.binarize is not None and arguments.likelihood not in (None, *BINARY):
        raise UsageError(
            f"--binarize makes data for --likelihood bernoulli, not for {arguments.likelihood}."
        )
