"""Which changes of images there are."""

from __future__ import annotations

from typing import Any

from dgm_core.arguments import check_choice, check_number, refuse

__all__ = ["AUGMENTATIONS", "check_policies", "check_reach"]

AUGMENTATIONS = ("brightness", "shift", "cutout")


def check_policies(policies: Any) -> tuple[str, ...]:
    """Names of changes, at least one.

    Example:
        >>> check_policies(["shift"])
        ('shift',)
    """
    if not isinstance(policies, (tuple, list)) or not policies:
        refuse("policies", f"a tuple of some of {AUGMENTATIONS}", policies)
    return tuple(check_choice("policies", policy, AUGMENTATIONS) for policy in policies)


def check_reach(reach: Any) -> float:
    """A share of an image below a half.

    Example:
        >>> check_reach(0.125)
        0.125
    """
    reach = check_number("reach", reach, above=0)
    return reach if reach < 0.5 else refuse("reach", "a number in (0, 0.5)", reach)
