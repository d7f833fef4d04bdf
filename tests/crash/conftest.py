"""The homes of the outside tests serve here too."""

from tests.outside.conftest import make_home

__all__ = ["make_home"]
