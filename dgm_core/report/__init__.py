"""What there is to say of a run on one page: a table, pictures, an HTML file, draws for ArviZ."""

from dgm_core.report.result import RunReport

__all__ = ["RunReport"]
