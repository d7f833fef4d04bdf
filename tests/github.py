"""What GitHub would send: documents of the events that deploy, with the fields of the real ones.

Blocks are given as differences: `a_workflow_run(run={"conclusion": "failure"})`.
"""

from typing import Any

SHA = "6113728f27ae82c7b1a177c8d03f9e96e0adf246"
OLD = "59b20b8d5c6ff8d09518454d4dd8b7b30f095ab5"


def a_repository(**differences: Any) -> dict[str, Any]:
    """The configured one."""
    return {
        "id": 35129377, "name": "scraper", "full_name": "me/scraper", "private": False,
        "owner": {"login": "me", "id": 6752317}, "html_url": "https://github.com/me/scraper", "fork": False,
        "clone_url": "https://github.com/me/scraper.git", "ssh_url": "git@github.com:me/scraper.git",
        "default_branch": "main",
    } | differences  # fmt: skip


def a_fork(**differences: Any) -> dict[str, Any]:
    """Somebody else's copy of it, with the same name and branches."""
    return (
        a_repository(id=99887766, full_name="evil/scraper", owner={"login": "evil"}, fork=True) | differences
    )


def a_workflow_run(run: dict[str, Any] | None = None, **differences: Any) -> dict[str, Any]:
    """A workflow on a push to main has succeeded."""
    sent: dict[str, Any] = {
        "id": 289782451, "name": "CI", "head_branch": "main", "head_sha": SHA, "path": ".github/workflows/ci.yml",
        "display_title": "Add a page", "run_number": 41, "event": "push", "status": "completed",
        "conclusion": "success", "workflow_id": 2933063, "run_attempt": 1, "pull_requests": [],
        "head_commit": {"id": SHA, "message": "Add a page"}, "actor": {"login": "me"},
        "triggering_actor": {"login": "me"}, "repository": a_repository(), "head_repository": a_repository(),
        "referenced_workflows": [],
    }  # fmt: skip
    document = {
        "action": "completed",
        "workflow_run": sent | (run or {}),
        "workflow": {"id": 2933063, "name": "CI", "path": ".github/workflows/ci.yml", "state": "active"},
        "repository": a_repository(),
        "sender": {"login": "me", "id": 6752317},
    }
    return document | differences


def a_release(release: dict[str, Any] | None = None, **differences: Any) -> dict[str, Any]:
    """A release was published."""
    sent: dict[str, Any] = {
        "id": 17372790, "tag_name": "v1.2", "target_commitish": "main", "name": "One point two", "draft": False,
        "prerelease": False, "author": {"login": "me"}, "body": "What is new",
        "tarball_url": "https://api.github.com/repos/me/scraper/tarball/v1.2", "assets": [],
    }  # fmt: skip
    document = {
        "action": "published",
        "release": sent | (release or {}),
        "repository": a_repository(),
        "sender": {"login": "me", "id": 6752317},
    }
    return document | differences
