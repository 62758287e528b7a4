"""`python -m rotation` and `apim-rotation`."""

import gc
import sys


def main() -> None:
    """Run a command, or say what is missing for that."""
    # Looking for garbage while SDKs load, and once more at the end, would be a third of a command's time.
    gc.set_threshold(50_000)
    try:
        from rotation.cli.commands import run
    except ModuleNotFoundError as error:
        if error.name not in {"typer", "rich"}:
            raise
        print(f"The command line needs {error.name}: pip install typer rich", file=sys.stderr)  # noqa: T201 - a person reads it
        sys.exit(2)
    try:
        run()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
