"""Which data the rows of a batch are, told to the plates of model and guide."""

from collections.abc import Sequence
from typing import Any

from pyro.infer.autoguide import AutoGuide
from pyro.poutine.indep_messenger import CondIndepStackFrame
from pyro.poutine.messenger import Messenger
from pyro.poutine.runtime import Message
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from pyro_dgm.compat import plate_frames

__all__: list[str] = []  # for the package, not for users


class Rows(Messenger):
    """Hands the numbers of a batch's rows to the plates that hold a subsample of the data, so that
    what belongs to a datum meets that datum.
    """

    def __init__(
        self, rows: Tensor | None, num_data: int | None, guides: Sequence[AutoGuide]
    ) -> None:
        super().__init__()
        rows = None if rows is None or rows.ndim > 1 else rows  # of data without pairs: no one's
        self.rows, self.num_data, self.guides = rows, num_data, guides
        self.taken = False
        self.remembered: list[tuple[AutoGuide, CondIndepStackFrame]] = []

    def __enter__(self) -> "Rows":
        if self.rows is not None:
            for guide in self.guides:  # they remember the size of the batch that they saw first
                frames = plate_frames(guide)
                for name, frame in frames.items():
                    if frame.full_size == self.num_data and frame.size != len(self.rows):
                        self.remembered.append((guide, frame))
                        frames[name] = frame._replace(size=len(self.rows))
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        for guide, frame in self.remembered:
            plate_frames(guide)[frame.name] = frame
        self.remembered.clear()
        super().__exit__(*error)

    def _pyro_sample(self, msg: Message) -> None:
        if self.rows is None or msg["value"] is not None or not site_is_subsample(msg):
            return
        if msg["fn"].size == self.num_data and msg["fn"].subsample_size == len(self.rows):
            msg["value"], msg["done"], self.taken = self.rows, True, True
