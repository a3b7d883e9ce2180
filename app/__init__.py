"""The HTTP side: API, tables, settings, storage, wake-ups, the ``pst`` command. Never torch."""
