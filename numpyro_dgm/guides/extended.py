"""The model that a guide is one of: the user's, with the density of what the guide draws beyond it.

q(a, z | x) is a guide of p(x, z) r(a | x, z), whatever the density r: the bound is lower by
E KL(q(a | x, z), r(a | x, z)), and r learns with everything else.
"""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol

from dgm_core.guides import LatentSite
from numpyro_dgm.guides.program import Call, Noting

__all__: list[str] = []  # for the package, not for users

_running: ContextVar[tuple[int, ...]] = ContextVar("running", default=())  # guides, by identity


class _Extending(Protocol):
    """What a guide shows to its extended model."""

    def prepare(self, *args: Any, **kwargs: Any) -> Any: ...

    def extension(self, model: Callable) -> Callable: ...

    def called(self, args: tuple, kwargs: dict[str, Any]) -> Call: ...


class Extended:
    """A model with the reverse statements of a guide, stated inside the plates of a site, after it,
    or after the model.

    In a run of the model by itself they are drawn, and never observed.

    Attributes:
        guide: whose statements they are.
        plain: the model without them.
    """

    def __init__(self, guide: _Extending, model: Callable) -> None:
        self.guide, self.plain = guide, model

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns."""
        running = _running.get()
        again = id(self.guide) in running  # a model that is extended already
        if again or self.guide.prepare(*args, **kwargs).extension(self.plain) is self.plain:
            return self.plain(*args, **kwargs)
        call = self.guide.called(args, kwargs)
        parts = [part for part in call.parts if part.reverses]
        token = _running.set((*running, id(self.guide)))
        try:
            with _Reversing(call, parts):
                value = self.plain(*args, **kwargs)
        finally:
            _running.reset(token)
        for part in parts:
            part.reverse(call, None)
        return value


class _Reversing(Noting):
    """Has parts state what they reverse after each latent site of the model inside."""

    def __init__(self, call: Call, parts: list[Any]) -> None:
        super().__init__(call)
        self.parts = parts

    def drawn(self, site: LatentSite | None) -> None:
        for part in self.parts if site is not None else ():
            part.reverse(self.call, site)
