"""A pretend Azure on loopback: real HTTPS, real TLS, written from Azure's contract, a stranger to `rotation`.

`certificates` issues them, `world` holds the state as a function of a movable clock, and the rest is wire:
`identity` (tokens, and the door in front of every server), `arm`, `key_vault`, `ingestion`, `tls_gateway` and
`event_grid`. `azure` starts and stops them together and says which settings lead an app to them.
"""
