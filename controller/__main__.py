"""``guestkeeper`` and ``python -m controller``: the operator's commands."""

from controller.cli.app import app


def main() -> None:
    """Runs the command line and exits."""
    app(prog_name="guestkeeper")


if __name__ == "__main__":
    main()
