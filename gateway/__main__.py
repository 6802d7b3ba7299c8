"""The `gateway` command."""


def main() -> None:
    """Run the command line."""
    from gateway.cli import app

    app()


if __name__ == "__main__":
    main()
