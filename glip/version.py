"""The version, apart from everything that importing it would load."""

__version__ = "0.2.0"
