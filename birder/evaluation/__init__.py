"""How good names are: metrics with intervals, protocols of the literature."""
