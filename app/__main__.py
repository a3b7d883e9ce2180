"""``python -m app`` is the ``pst`` command, which is defined in cli.py."""

from app.cli import main

if __name__ == "__main__":
    main()
