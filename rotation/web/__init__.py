"""The status page: what /api/status tells, for people. No sockets, no build step."""
