"""The version of the package, which written files record."""

VERSION = "0.1.0"
