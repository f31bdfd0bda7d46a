"""What factorises in a model: its data plates, and which latent sites are local to a datum and
which are global.

A *data plate* encloses every observed site and, where it encloses latent sites at all, every latent
site that lies in any such plate. Given the global latents, the joint is a product over the data
plates, so that bounds and weights may be taken datum by datum.
"""

from dataclasses import dataclass
from math import prod

from pyro.poutine import Trace
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample

__all__ = ["Structure", "check_sites", "find_structure"]


@dataclass(frozen=True)
class Structure:
    """The factorisation of a model with its guide.

    plates: the data plates, name -> dimension (negative, ascending);  batch_ndim: number of batch
    dimensions of the deepest site, so that particles go to dimension -(batch_ndim + 1);
    global_sites: latents outside the data plates, auxiliary sites of the guide included;
    local_sites: latents inside them;  observed_sites;  subsampled: whether a data plate holds fewer
    data than it declares.
    """

    plates: dict[str, int]
    batch_ndim: int
    global_sites: tuple[str, ...]
    local_sites: tuple[str, ...]
    observed_sites: tuple[str, ...]
    subsampled: bool


def random_sites(trace: Trace) -> dict[str, Message]:
    """The sample sites of a trace without the index draws of its plates."""
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site)
    }


def plates_of(site: Message) -> dict[str, int]:
    """The plates around a site, name -> dimension (negative)."""
    return {frame.name: frame.dim for frame in site["cond_indep_stack"] if frame.vectorized}


def full_size(frame: CondIndepStackFrame) -> int:
    """The declared size of a plate, of which a frame's `size` are present."""
    return frame.size if frame.full_size is None else frame.full_size


def check_sites(model_trace: Trace, guide_trace: Trace) -> None:
    """Raises ValueError where the guide misses a latent site of the model or has a site that the
    model has not.
    """
    latent = {name for name, site in random_sites(model_trace).items() if not site["is_observed"]}
    drawn = {
        name: site["infer"].get("is_auxiliary", False)
        for name, site in random_sites(guide_trace).items()
        if not site["is_observed"]
    }
    missing = sorted(latent - set(drawn))
    if missing:
        raise ValueError(
            f"The guide must draw every latent site of the model, but misses {missing}: add "
            "pyro.sample statements with these names, "
            "or observe the sites in the model."
        )
    extra = sorted(
        name for name, auxiliary in drawn.items() if not auxiliary and name not in latent
    )
    if extra:
        raise ValueError(
            f"The guide draws {extra}, which are not latent sites of the model: remove them, "
            f"rename them, or mark them with infer={{'is_auxiliary': True}}."
        )


def no_gradient_message(name: str, family: str, owner: str) -> str:
    """What to say of a site with learnable parameters through whose draws no gradient passes."""
    return (
        f"Site '{name}' of the {owner} draws from {family}, which is not reparameterised: no "
        "gradient passes through its draws to its parameters. Compare a "
        "site that is (the mean under a Delta or a Normal, a relaxed distribution), or train the "
        "site by a term with a score-function estimator, such as ELBO."
    )


def find_structure(model_trace: Trace, guide_trace: Trace) -> Structure:
    """Reads the factorisation from one run of the guide and the model replayed against it."""
    check_sites(model_trace, guide_trace)
    sites, drawn = random_sites(model_trace), random_sites(guide_trace)
    around = {name: plates_of(site) for name, site in (drawn | sites).items()}
    observed = tuple(name for name, site in sites.items() if site["is_observed"])
    latent = [name for name, site in sites.items() if not site["is_observed"]]
    plates = _data_plates([around[name] for name in observed], [around[name] for name in latent])
    latent += [name for name in drawn if name not in latent]  # the guide's auxiliary sites
    local = tuple(name for name in latent if plates and plates.keys() <= around[name].keys())
    everything = [*sites.values(), *drawn.values()]
    frames = [-dim for site in everything for dim in plates_of(site).values()]
    data_frames = [
        frame
        for name in observed[:1]
        for frame in sites[name]["cond_indep_stack"]
        if frame.name in plates
    ]
    shapes = [len(site["fn"].batch_shape) for site in everything]
    return Structure(
        plates=plates,
        batch_ndim=max([0, *frames, *shapes]),
        global_sites=tuple(name for name in latent if name not in local),
        local_sites=local,
        observed_sites=observed,
        subsampled=any(full_size(frame) != frame.size for frame in data_frames),
    )


def declared_size(generative_trace: Trace) -> int:
    """The number of data that the plates of a model declare, from a run of it that ignored the
    data: the product over its data plates.
    """
    sites = random_sites(generative_trace).values()
    observed = [site for site in sites if site["infer"].get("was_observed")]
    plates = _data_plates(
        [plates_of(site) for site in observed],
        [plates_of(site) for site in sites if not site["infer"].get("was_observed")],
    )
    frames = {frame.name: frame for site in observed[:1] for frame in site["cond_indep_stack"]}
    return prod(full_size(frames[name]) for name in plates)


def _data_plates(
    around_observed: list[dict[str, int]], around_latents: list[dict[str, int]]
) -> dict[str, int]:
    """The plates that enclose all observed sites and, where they enclose latent sites at all, all
    latents in any such plate; ascending dimensions.
    """
    first = around_observed[0] if around_observed else {}
    plates = {
        name: dim
        for name, dim in first.items()
        if all(name in around for around in around_observed)
    }
    inside = [around for around in around_latents if plates.keys() & around.keys()]
    return dict(
        sorted(
            (
                (name, dim)
                for name, dim in plates.items()
                if all(name in around for around in inside)
            ),
            key=lambda item: item[1],
        )
    )
