"""Where the classes that files of format 1 name stand now."""

__all__ = ["MOVED"]

# "module.name" in the file -> "module.name" today, as the list of admitted classes has it
MOVED: dict[str, str] = {}
