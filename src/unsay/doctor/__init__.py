"""What a recipe will cost here: memory, time and disk, before it runs. docs/doctor.md has the model and where it is off.

report = examine(load("recipes/demo.toml"))
"""

from unsay.doctor.examine import Report, examine

__all__ = ["Report", "examine"]
