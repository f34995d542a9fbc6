"""Names for what is in a photograph, from texts or from labelled examples."""
