"""Names for what is in an image, from texts or from labelled examples."""
