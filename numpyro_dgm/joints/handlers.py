"""Effect handlers of the losses: particles and what they share, replay that keeps explicit
subsamples, stopped values, frozen parameters.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax import Array
from numpyro.primitives import Messenger

__all__: list[str] = []  # for the package, not for users


class SharedKeys(Messenger):
    """Gives plates, and the sites named in `shared`, keys that do not depend on the particle: all
    particles see one minibatch and one draw there.
    """

    def __init__(self, fn: Callable, rng_key: Array, shared: tuple[str, ...] = ()) -> None:
        super().__init__(fn)
        self.rng_key = rng_key
        self.shared = shared

    def process_message(self, msg: dict[str, Any]) -> None:
        chosen = msg["type"] == "plate" or (msg["type"] == "sample" and msg["name"] in self.shared)
        if chosen and msg["kwargs"].get("rng_key") is None and msg["value"] is None:
            msg["kwargs"]["rng_key"] = jax.random.fold_in(
                self.rng_key, zlib.crc32(msg["name"].encode()) % 2**31
            )


class GivenDraws(Messenger):
    """Hands out the given values at sample sites; plates without an explicit subsample take the
    given indices, explicit ones stay.

    (Pyro's own replay overrides `plate(subsample=idx)`: pyro#3468.)
    """

    def __init__(
        self, fn: Callable, values: Mapping[str, Array], indices: Mapping[str, Array | None]
    ) -> None:
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
    """Cuts the gradient through every latent value that is not reparameterised, or through all of
    them (`every_site`).
    """

    def __init__(self, *, every_site: bool) -> None:
        super().__init__()
        self.every_site = every_site

    def postprocess_message(self, msg: dict[str, Any]) -> None:
        if (
            msg["type"] == "sample"
            and not msg["is_observed"]
            and (self.every_site or not msg["fn"].has_rsample)
        ):
            msg["value"], msg["intermediates"] = jax.lax.stop_gradient(msg["value"]), []
