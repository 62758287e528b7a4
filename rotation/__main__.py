"""`python -m rotation` and `apim-rotation`."""

import sys


def main() -> None:
    """Run a command, or say what is missing for that."""
    try:
        from rotation.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(f"The command line needs {error.name}: pip install typer rich", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    run()


if __name__ == "__main__":
    main()
