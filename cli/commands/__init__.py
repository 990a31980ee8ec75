"""What commands there are: each a function in the module of its name in this folder, or in one below it."""

from keyword import iskeyword
from os import listdir
from pathlib import Path

from ...graph.lazy import lazily

_FOLDERS = ("", "several")


def _found() -> dict[str, str]:
    """Modules by the command in each."""
    found = {}
    for folder in _FOLDERS:
        files = (file for file in listdir(Path(__path__[0], folder)) if file.endswith(".py") and file[0] != "_")
        found.update({file[:-3].rstrip("_"): f"{folder}.{file[:-3]}".lstrip(".") for file in files})
    return dict(sorted(found.items()))


_MODULES = _found()
COMMANDS = tuple(_MODULES)
__getattr__, __all__ = lazily(__name__, {"..plugged": "PLUGGED"})


def home(name: str) -> str:
    """The module of a command, below this package."""
    return _MODULES[name]


def function(name: str) -> str:
    """What it is called there: a word that Python keeps for itself has an underscore behind it."""
    return f"{name}_" if iskeyword(name) else name


def about(name: str) -> str:
    """The first line of what a command of ours says of itself. It is read, as importing all of them takes long."""
    source = Path(__path__[0], f"{home(name).replace('.', '/')}.py").read_text()
    return source.partition(f"\ndef {function(name)}(")[2].split('"""')[1].partition("\n")[0]
