"""The command line: the same path by hand, from a terminal. Never imported by the app.

Needs the extra `cli` (typer and rich).
"""
