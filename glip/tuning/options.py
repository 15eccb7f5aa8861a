"""What to adapt to what, and how: the options of tuning and the rates of each mode."""

from __future__ import annotations
