"""The command line, one verb a file: settings in, function calls out. The only part of `nas` that knows every room."""

__all__: list[str] = []
