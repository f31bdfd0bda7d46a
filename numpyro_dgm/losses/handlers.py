"""Effect handlers of the losses: particles, replay that keeps explicit subsamples, stopped values, frozen parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array
from numpyro.primitives import Messenger

__all__ = ["Draws", "Particles", "StoppedValues"]


class Particles(Messenger):
    """Draws every latent site `num_particles` times, along dimension -(batch_ndim + 1); the sites in `shared` once for all particles.

    With one particle no dimension is added.  Cost: one vectorised pass; the user's networks see the particles as a leading dimension.
    """

    def __init__(self, fn: Callable, num_particles: int, batch_ndim: int, *, shared: tuple[str, ...] = ()) -> None:
        super().__init__(fn)
        self.num_particles = num_particles
        self.batch_ndim = batch_ndim
        self.shared = shared

    def process_message(self, msg: dict[str, Any]) -> None:
        if self.num_particles == 1 or msg["type"] != "sample" or msg["value"] is not None or msg["name"] in self.shared:
            return
        batch = tuple(msg["fn"].batch_shape)[-self.batch_ndim :] if self.batch_ndim else ()
        msg["fn"] = msg["fn"].expand((self.num_particles, *[1] * (self.batch_ndim - len(batch)), *batch))


class Draws(Messenger):
    """Hands out the given values at sample sites; plates without an explicit subsample take the given indices, explicit ones stay.

    (Pyro's own replay overrides `plate(subsample=idx)`: pyro#3468.)
    """

    def __init__(self, fn: Callable, values: Mapping[str, Array], indices: Mapping[str, Array | None]) -> None:
        super().__init__(fn)
        self.values = values
        self.indices = indices

    def process_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "plate":
            if msg["value"] is None and self.indices.get(msg["name"]) is not None:
                msg["value"] = self.indices[msg["name"]]
        elif msg["type"] == "sample" and msg["name"] in self.values and not msg["is_observed"]:
            msg["value"] = self.values[msg["name"]]


class StoppedValues(Messenger):
    """Cuts the gradient through every latent value that is not reparameterised, or through all of them (`every_site`)."""

    def __init__(self, *, every_site: bool) -> None:
        super().__init__()
        self.every_site = every_site

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if msg["type"] == "sample" and not msg["is_observed"] and (self.every_site or not msg["fn"].has_rsample):
            msg["value"] = jax.lax.stop_gradient(msg["value"])
