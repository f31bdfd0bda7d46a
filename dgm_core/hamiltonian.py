"""What a Hamiltonian guide decides without arrays: which draws move together, what their reverse
model sees, and what cannot be moved."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from dgm_core.arguments import check_number
from dgm_core.guides import LatentSite, Outline

__all__: list[str] = []  # for the package, not for users


@dataclass(frozen=True)
class Draw:
    """A draw of the base guide.

    dims: the dimensions of the plates around it, by name;  width: the entries of one event on the
    real line.
    """

    name: str
    dims: tuple[tuple[str, int], ...]
    width: int


@dataclass(frozen=True)
class Moved:
    """Draws in the same plates, which move with one momentum.

    site: the last site of the model in these plates, where the momentum is drawn; None: outside all
    plates;  sees: the sites whose values the reverse model sees;  vectors: the joint vectors, by
    their number among the parts;  scale: B / N of the plates, which the force is multiplied by.
    """

    draws: tuple[Draw, ...]
    site: str | None
    sees: tuple[str, ...]
    vectors: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the draws."""
        return tuple(draw.name for draw in self.draws)

    @property
    def width(self) -> int:
        """The entries of a momentum."""
        return sum(draw.width for draw in self.draws)

    @property
    def depth(self) -> int:
        """The batch dimensions up to the outermost plate."""
        return max((-dim for _, dim in self.draws[0].dims), default=0)

    def suffix(self) -> str:
        """What distinguishes its sites from those of others."""
        return "" if self.site is None else f".{self.site}"

    def scale(self, outline: Outline) -> float:
        """B / N of the plates around it in a call."""
        if self.site is None:
            return 1.0
        plates = outline.sites[self.site].plates
        return prod(plate.size / plate.full_size for plate in plates if plate.full_size > 0)


def moved_together(
    draws: Iterable[Draw], outline: Outline, vectors: Mapping[int, tuple[str, ...]]
) -> tuple[Moved, ...]:
    """Draws by their plates.

    Args:
        draws: of the base guide, in its order.
        vectors: number of a joint vector among the parts -> the sites that it answers.
    """
    draws = tuple(draws)
    inside = {name for names in vectors.values() for name in names}
    own = [site for site in outline.sites.values() if site.name not in inside]
    order = list(outline.sites)
    found = []
    for dims in dict.fromkeys(draw.dims for draw in draws):
        group = tuple(draw for draw in draws if draw.dims == dims)
        if not dims:
            sees = tuple(site.name for site in own if not site.dims)
            found.append(Moved(group, None, sees, tuple(vectors)))
            continue
        last = [site.name for site in own if site.dims == dict(dims)][-1]
        known = order[: order.index(last) + 1]
        sees = tuple(
            s.name for s in own if s.name in known and s.dims.items() <= dict(dims).items()
        )
        seen = tuple(n for n, names in vectors.items() if set(names) <= set(known))
        found.append(Moved(group, last, sees, seen))
    return tuple(found)


def check_movable(outline: Outline, masked: Collection[str] = ()) -> None:
    """Raises ValueError for latents that no Hamiltonian moves, such as the masked ones."""
    for site in outline.sites.values():
        problem = ""
        if site.discrete:
            problem = "is discrete and has no gradient: sum it out in the model"
        elif site.scanned:
            problem = "is drawn in a scan, which a guide cannot answer"
        elif site.unconstrained is None:
            problem = "has a support that is not mapped to the real line"
        elif site.masked or site.name in masked:
            problem = "lies under a mask: mask the observed site alone, or take the base guide"
        if problem:
            raise ValueError(
                f"HamiltonianGuide moves all latents, but site '{site.name}' {problem}."
            )
        _check_minibatch(site, outline)


def _check_minibatch(site: LatentSite, outline: Outline) -> None:
    around = {plate.name for plate in site.plates}
    for observed, plates in outline.data_plates.items():
        if outside := sorted((plates & outline.subsampled) - around):
            raise ValueError(
                f"HamiltonianGuide moves latent site '{site.name}', which lies outside the "
                f"subsampled plate {outside} of the observed site '{observed}', by the force of a "
                "minibatch, which would make the bound wrong: give the plate all its data, or take "
                "the base guide."
            )


def check_bounds(names: Iterable[str]) -> None:
    """Raises ValueError for draws inside bounds of their own, which move where these are sites."""
    if names := sorted(names):
        raise ValueError(
            f"HamiltonianGuide moves {names} as the base draws them, inside bounds that may be "
            "other sites and would move beside them: have a joint vector or an amortized family "
            "answer them, on the real line."
        )


def check_statistics(batch_norm: bool) -> None:
    """Raises ValueError where the model's density changes from run to run."""
    if batch_norm:
        raise ValueError(
            "HamiltonianGuide runs the model several times in a step, and a network of this model "
            "keeps running statistics (BatchNorm), which every run would move: take one without, "
            "such as layer normalization, or the base guide."
        )


def changed_draws(drawn: Iterable[str], known: Iterable[str]) -> str:
    """What to say where a call draws other things than the first one."""
    return (
        f"HamiltonianGuide was built for the draws {sorted(known)} of its base, but this call has "
        f"{sorted(drawn)}: make a guide for each form of the arguments."
    )


def check_steps(step_size: float, max_step: float) -> tuple[float, float]:
    """The first size of steps and the largest; ValueError where they do not fit."""
    step_size = check_number("step_size", step_size, above=0)
    max_step = check_number("max_step", max_step, above=0)
    if step_size >= max_step:
        raise ValueError(f"step_size must be below max_step, got {step_size} and {max_step}.")
    return step_size, max_step


def check_base(others: list[str]) -> None:
    """Raises ValueError for parts of a base whose draws cannot be moved."""
    if others:
        raise ValueError(
            f"HamiltonianGuide moves what JointGuide and AmortizedGuide draw, but its base has the "
            f"parts {others}: take one of these, or a Guide of their parts."
        )
