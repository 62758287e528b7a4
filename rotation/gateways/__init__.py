"""One module per kind of gateway: how to discover it, where to connect, how to tell it to re-read."""
