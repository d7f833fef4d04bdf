"""How the demo says that something did not happen as it must."""


class DemoFailed(Exception):
    """The sentence for the person. `details` are lines that help to find out why."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def must(condition: object, message: str) -> None:
    """Raises DemoFailed unless the condition holds."""
    if not condition:
        raise DemoFailed(message)
