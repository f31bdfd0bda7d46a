"""What both backends share and what needs no tensor library: data, diagnostics, ArviZ export,
plots, results, command line.
"""
