"""What commands there are: each a function in the module of its name in this folder."""

from keyword import iskeyword
from os import listdir
from pathlib import Path

from ...graph.lazy import lazily

COMMANDS = tuple(sorted(name[:-3].rstrip("_") for name in listdir(__path__[0]) if name[0] != "_"))
__getattr__, __all__ = lazily(__name__, {"..plugged": "PLUGGED"})


def home(name: str) -> str:
    """The module and the function of a command: a word that Python keeps for itself has an underscore behind it."""
    return f"{name}_" if iskeyword(name) else name


def about(name: str) -> str:
    """The first line of what a command of ours says of itself. It is read, as importing all of them takes long."""
    source = Path(__path__[0], f"{home(name)}.py").read_text()
    return source.partition(f"\ndef {home(name)}(")[2].split('"""')[1].partition("\n")[0]
