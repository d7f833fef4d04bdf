"""What a reload looks like over HTTP; what it does is in `tests/test_app.py` and from outside."""

from agent.core.errors import ConfigError, Problem, Unavailable
from agent.core.reload import ConfigStatus, Reloaded
from tests.fakes import START
from tests.web.conftest import ADMIN, DEPLOYER, House

FILE = "/etc/homeport/<b>config.yaml"
PROBLEM = Problem("services.app.helth", "is not an option", 4, "did you mean health?")


def stale() -> ConfigStatus:
    told = {"path": PROBLEM.path, "message": PROBLEM.message, "line": PROBLEM.line, "hint": PROBLEM.hint}
    return ConfigStatus(file=FILE, loaded_at=START, stale=True, problems=(told,))


async def test_what_changed_is_answered(house: House) -> None:
    async def reload(actor: str) -> Reloaded:
        assert actor == "owner"
        return Reloaded(
            file=FILE, loaded_at=START, added=("new",), changed=(), removed=(), restart_needed=("listen.port",),
            after_deployment=(), older_runtime=(),
        )  # fmt: skip

    house.context.reload = reload
    answer = await house.post("/api/v1/reload", token=ADMIN)
    assert (answer.status, answer.json["added"], answer.json["restart_needed"]) == (
        200,
        ["new"],
        ["listen.port"],
    )
    assert (await house.post("/api/v1/reload", token=DEPLOYER)).code == "forbidden"
    assert (
        await house.post("/api/v1/reload", {"file": "/etc/passwd"}, token=ADMIN)
    ).code == "request-invalid"


async def test_an_invalid_file_is_answered_with_every_problem(house: House) -> None:
    """R-SD-8."""

    async def reload(_: str) -> Reloaded:
        raise ConfigError([PROBLEM, Problem("", "is empty")], file=FILE)

    house.context.reload = reload
    answer = await house.post("/api/v1/reload", token=ADMIN)
    assert (answer.status, answer.code, answer.json["file"]) == (422, "config-invalid", FILE)
    assert answer.json["problems"] == [
        {"path": PROBLEM.path, "message": PROBLEM.message, "line": 4, "hint": PROBLEM.hint},
        {"path": "", "message": "is empty", "line": None, "hint": ""},
    ]


async def test_what_cannot_be_done_now_may_be_tried_again(house: House) -> None:
    async def reload(_: str) -> Reloaded:
        raise Unavailable("stopping", "the agent is being stopped")

    house.context.reload = reload
    answer = await house.post("/api/v1/reload", token=ADMIN)
    assert (answer.status, answer.code) == (503, "stopping")


async def test_a_file_that_is_invalid_is_told_by_health_status_and_page(house: House) -> None:
    """R-SD-8."""
    house.states["scraper"] = ("healthy", "")
    assert (await house.get("/health")).json["status"] == "healthy"
    house.context.config = stale
    health = await house.get("/health")
    assert (health.status, health.json["status"], health.json["score"]) == (200, "degraded", 75)
    told = (await house.get("/status")).json["agent"]["config"]
    assert (told["file"], told["stale"], told["problems"][0]["line"]) == (FILE, True, 4)
    page = (await house.get("/")).body.decode()
    assert "the configuration needs you" in page
    assert "homeport check /etc/homeport/&lt;b&gt;config.yaml" in page
    assert "<b>config" not in page
    house.states["scraper"] = ("unhealthy", "")
    assert (await house.get("/health")).status == 503
