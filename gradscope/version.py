"""The version, for everything below the public face of the package."""

__version__ = "0.1.0"
