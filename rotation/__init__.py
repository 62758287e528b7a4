"""Rotation of API gateway certificates: told at once, proven by handshake.

Read in this order: `model` (the words), `reconcile` (the one path), `verdict` and `plan` (what is
decided, pure), `gateways/` (how a kind is found and told), `clients/` (everything that opens a
socket), `app` (where it is put together). `events`, `inventory`, `report`, `telemetry` and `settings`
turn outside data into our values and back.
If it opens a socket it is in `clients/`; if it decides, it is pure; `reconcile` is where the two meet.
"""
