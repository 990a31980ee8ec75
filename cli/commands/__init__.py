"""What commands there are: each a function in the module of its name in this folder."""

from os import listdir
from pathlib import Path

from ...graph.lazy import lazily

COMMANDS = tuple(sorted(name[:-3] for name in listdir(__path__[0]) if name[0] != "_"))
__getattr__, __all__ = lazily(__name__, {"..plugged": "PLUGGED"})


def about(name: str) -> str:
    """The first line of what a command of ours says of itself. It is read, as importing all of them takes long."""
    source = Path(__path__[0], f"{name}.py").read_text()
    return source.partition(f"\ndef {name}(")[2].split('"""')[1].partition("\n")[0]
