"""What the programs of running deployments have printed so far; in memory, and only for as long as they run.

When a step has ended its output is in the journal, which is what lasts. A lane runs one deployment at a time, so that
there is one text for each service at most.
"""

from collections.abc import Callable

from agent.core.model import Deployment, State
from agent.core.text import tail

LIMIT = 65536
"""Characters that are kept of each."""


class Progress:
    """The output of the running steps, by deployment."""

    def __init__(self) -> None:
        self._texts: dict[str, tuple[State, str]] = {}

    def listener(self, deployment: Deployment) -> Callable[[str], None]:
        """What is told the output of the step that is about to run; it begins with nothing."""
        self._texts.pop(deployment.id, None)

        def heard(text: str) -> None:
            self._texts[deployment.id] = (deployment.state, tail(text, LIMIT))

        return heard

    def forget(self, deployment: str) -> None:
        """The step has ended, and the journal holds what it printed."""
        self._texts.pop(deployment, None)

    def of(self, deployment: str) -> tuple[State, str] | None:
        """Which step of it runs and what it printed so far; None: nothing that the journal does not know.

        Whoever shows it asks here first and the journal then: a step that ends in between is in one of the two.
        """
        return self._texts.get(deployment)
