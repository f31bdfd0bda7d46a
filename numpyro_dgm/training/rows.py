"""Which data the rows of a batch are, told to the plates of model and guide."""

from collections.abc import Callable
from typing import Any

from jax import Array
from numpyro.primitives import Messenger

__all__: list[str] = []  # for the package, not for users


class Rows(Messenger):
    """Hands the numbers of a batch's rows to the plates that hold a subsample of the data, also
    where an automatic guide remembers the size of a full batch.

    Args:
        fn: a distribution.
        rows: which data these are.
        num_data: the size that such plates declare.
        batch_size: the size of full batches.
    """

    def __init__(
        self, fn: Callable, rows: Array | None, num_data: int | None, batch_size: int | None
    ) -> None:
        super().__init__(fn)
        rows = None if rows is None or rows.ndim > 1 else rows  # of data without pairs: no one's
        self.rows, self.num_data, self.batch_size = rows, num_data, batch_size

    def process_message(self, msg: dict[str, Any]) -> None:
        if self.rows is None or msg["type"] != "plate" or msg["args"][0] != self.num_data:
            return
        size, given = msg["args"]
        present = size if given is None else given
        indices_are_free = msg["value"] is None or present == size
        if indices_are_free and present in (len(self.rows), self.batch_size):
            msg["value"], msg["args"] = self.rows, (size, len(self.rows))
