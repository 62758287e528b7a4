"""Everything that opens a socket, and nothing that decides."""
