"""Architecture families: what a `config.json` means in shapes, one family a file; and what is refused, and why.

`family_for(config)` finds the family of a configuration, `describe_families()` lists all of them. No torch here.
"""

from edgeprune.intake.families.base import Family, FamilyShapes
from edgeprune.intake.families.registry import describe_families, family_for

__all__ = ["Family", "FamilyShapes", "describe_families", "family_for"]
