"""The source's options as their user has them: configured, told at the start, and deployed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gitrepo import Remote
from tests.world import Home

pytestmark = pytest.mark.outside


def an_old_git(directory: Path) -> dict[str, str]:
    """One that only says so."""
    directory.mkdir()
    (directory / "git").write_text(
        f'#!/bin/sh\n[ "$*" = --version ] && echo git version 2.39.5 || exec {shutil.which("git")} "$@"\n'
    )
    (directory / "git").chmod(0o755)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_a_service_with_a_submodule_lands_and_an_old_git_is_told(make_home: Callable[..., Home]) -> None:
    """R-GIT-5"""
    home = make_home()
    library = Remote(home.directory / "git-app" / "library")
    revision = library.commit({"lib.py": "x = 1\n"})
    work = home.directory / "git-app" / "work"
    (work / "lib").mkdir()
    home.remotes["app"]._git("update-index", "--add", "--cacheinfo", f"160000,{revision},lib")
    home.remotes["app"].write(".gitmodules", '[submodule "lib"]\n\tpath = lib\n\turl = ../library\n')
    home.settings["services"]["app"]["source"]["submodules"] = True
    home.save()
    home.start(more=an_old_git(home.directory / "bin"))
    assert "services.app.source.submodules has an old git" in home.log.read_text()
    deployment = home.deploy("one")
    assert deployment["state"] == "succeeded", deployment
    release = home.srv / "app" / "releases" / home.current()
    assert (release / "lib/lib.py").read_text() == "x = 1\n"


def test_a_submodule_elsewhere_ends_the_deployment_and_is_held_against_the_revision(
    make_home: Callable[..., Home],
) -> None:
    home = make_home()
    work = home.directory / "git-app" / "work"
    (work / "lib").mkdir()
    home.remotes["app"]._git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},lib")
    home.remotes["app"].write(".gitmodules", '[submodule "lib"]\n\tpath = lib\n\turl = /etc\n')
    home.settings["services"]["app"]["source"]["submodules"] = True
    home.save()
    home.start()
    deployment = home.deploy("one")
    assert (deployment["state"], deployment["reason"]) == ("failed", "submodule-refused")
    assert "at most four deep" in deployment["hint"]
    quarantine = home.get("/status").document["services"]["app"]["quarantine"]
    assert [item["revision"] for item in quarantine] == [deployment["revision"]]


def test_a_key_that_goes_away_is_told_and_its_service_stays(make_home: Callable[..., Home]) -> None:
    home = make_home()
    key = home.directory / "key"
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----\n")
    key.chmod(0o600)
    source = {"repository": "ssh://git@127.0.0.1:1/app.git", "key": {"file": str(key)}}
    home.settings["services"]["app"]["source"] |= source
    home.save()
    home.start()
    key.chmod(0o644)
    deployment = home.deploy("one")
    assert (deployment["state"], deployment["reason"]) == ("failed", "key-unusable")
    assert "chmod 0600" in deployment["hint"]
    assert home.get("/status").document["services"]["app"]["quarantine"] == []
    home.stop()
    home.start(wait=False)
    assert home.died() == 78
    assert "services.app.source.key: the file" in home.log.read_text()
