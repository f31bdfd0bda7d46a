"""A run on one page: a table, pictures, an HTML file that opens by itself, draws for ArviZ."""

from typing import Any

import jax
import numpy as np
import numpyro

from dgm_core.guides import plain
from dgm_core.report import RunReport
from dgm_core.report.composing import check_options, composed, enumerated_sites
from dgm_core.report.facts import Facts, Observed, Tools, drawn_graph, site_row
from dgm_core.training.threads import one_at_a_time
from numpyro_dgm.evaluation.arviz import to_arviz
from numpyro_dgm.evaluation.calls import Call, calling, kept_sites, observed
from numpyro_dgm.evaluation.draws import generate, latents, reconstruct
from numpyro_dgm.evaluation.surgery import elbo_surgery
from numpyro_dgm.evaluation.weights import log_weights
from numpyro_dgm.joints.structure import Trace, kind_of

__all__ = ["report"]


@one_at_a_time
def report(
    run: Any,
    *data: Any,
    labels: Any = None,
    image_shape: tuple[int, int, int] | None = None,
    num_particles: int = 500,
    num_draws: int = 100,
    title: str | None = None,
    rows: Any = None,
    vectorize: bool | None = None,
    seed: int = 0,
) -> RunReport:
    """All that there is to say of a run on data, for any model.

    The table: bounds, effective draws and k-hat with standard errors, the terms of the loss,
    `elbo_surgery`, active units, training, parameters, the data and the versions. The pictures:
    training curves, reconstructions, samples, codes, the posterior of latents that all data share,
    importance weights. The sites of the model, the loss as a formula, and where the package
    graphviz and its program are installed the model as the engine renders it.

    What does not apply to a model, or fails, leaves a sentence in the notes.

    Args:
        run, data, rows, vectorize, seed: as `log_weights` takes them. A run of `fit` knows its
            loss, and so does that of `load_run` where that was told.
        labels: the class of each datum, by which codes are colored.
        image_shape: (channels, height, width) of data that are images laid flat; events of three
            dimensions with values in [0, 1] are shown as images anyhow.
        num_particles: importance weights per datum.
        num_draws: of the latents, for the codes and ArviZ.
        title: of the page; the name of the model when left out.

    Returns:
        `RunReport`: `print` shows the table; `table` is a data frame, `figures` are the pictures,
        `to_html(path)` and `save(folder)` write files.

    Cost:
        num_particles passes of guide and model; surgery of the first 1000 data, codes of 2000, and
        draws for ArviZ of 100, where the data can be evaluated one by one.

    Raises:
        ValueError: for bad arguments, labels that are not one for each datum, and data on which
            guide and model do not run.

    Example:
        >>> from numpyro_dgm import VAE
        >>> vae = VAE(4, 2, hidden=(8,), key=jax.random.key(0))
        >>> made = report(vae, np.ones((3, 4)), num_particles=30, num_draws=4)
        >>> made.title, list(made.figures)[-1]
        ('VAE', 'importance weights')
    """
    options = check_options(
        labels, image_shape, num_particles, num_draws, title, rows, vectorize, seed
    )
    names = enumerated_sites(run)
    with calling(run, data, seed=seed, rows=rows, vectorize=vectorize, enumerated=names) as call:
        facts = _facts(call)
    return composed(run, data, facts, _TOOLS, options)


def _facts(call: Call) -> Facts:
    model, guide = call.traces()
    structure = call.sketch().structure
    kept, drawn = kept_sites(model), guide
    factors = {name: site for name, site in model.items() if kind_of(site) == "factor"}
    table, seen = [], {}
    for name, site in {**kept, **factors}.items():
        kind, frames = kind_of(site), site["cond_indep_stack"]
        of_guide = drawn[name]["fn"] if kind == "latent" and name in drawn else None
        table.append(
            site_row(name, kind, np.shape(site["value"]), frames, site.get("fn"), of_guide)
        )
        if kind == "observed":
            seen[name] = Observed(observed(site), site["fn"].event_dim)
    learned = {"model": _sizes(model), "guide": _sizes(guide)}
    return Facts(structure, table, seen, learned, call.num_rows, call.rows)


def _sizes(trace: Trace) -> dict[Any, int]:
    """How many numbers each parameter of the model or the guide has."""
    sites = trace.items()
    stated = {name: site["value"] for name, site in sites if site["type"] == "param"}
    return {name: sum(map(np.size, jax.tree.leaves(x))) for name, x in stated.items()}


def _terms(
    run: Any, *data: Any, loss: Any, step: int, num_draws: int, **options: Any
) -> dict[str, np.ndarray]:
    """A loss and its terms, (num_draws,) each, in nats per datum."""
    with calling(run, data, **options) as call:
        return call.terms(loss, step, num_draws)


def _graph(run: Any, *data: Any, **options: Any) -> bytes:
    """The model as NumPyro renders it, as PNG."""
    with calling(run, data, **options) as call:
        model = plain(run.model)
        shown = {"render_distributions": True}
        return drawn_graph(lambda: numpyro.render_model(model, call.args, call.kwargs, **shown))


_TOOLS = Tools(
    log_weights=log_weights,
    latents=latents,
    reconstruct=reconstruct,
    generate=generate,
    elbo_surgery=elbo_surgery,
    to_arviz=to_arviz,
    terms=_terms,
    graph=_graph,
    libraries=("jax", "numpyro", "equinox", "optax"),
)
