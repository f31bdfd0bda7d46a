"""What both backends share and what needs no tensor library: data, diagnostics, ArviZ export,
plots, results, command line.
"""

from dgm_core.importing import unchanged

with unchanged():  # scipy adds warning filters when it is first imported
    import scipy.sparse
    import scipy.special  # noqa: F401
