"""Every error code and reason of the product, with what a person can do about it.

A code is stable: scripts and the docs rely on it. `fault` says whose failure it is when a step of a
deployment ends with it: only Fault.COMMIT quarantines the revision.
"""

from dataclasses import dataclass

from agent.core.model import Fault


@dataclass(frozen=True)
class Code:
    """`hint` is a sentence that says what to do."""

    hint: str
    fault: Fault = Fault.WORLD


def _commit(hint: str) -> Code:
    return Code(hint, Fault.COMMIT)


CODES: dict[str, Code] = {
    # configuration and start
    "config-invalid": Code("Correct the lines named above, then run `homeport check`."),
    "config-unreadable": Code("Name an existing, readable file: `homeport serve --config FILE`."),
    "not-built-yet": Code("Remove this key: this version does not have the feature yet."),
    "file-exists": Code("Name a file that does not exist yet: a secret is never overwritten."),
    "already-running": Code("Stop the other agent first; `homeport status` shows it."),
    "port-taken": Code("Free the port, or choose another one under `listen.port`."),
    "no-agent": Code("Start it with `homeport serve --config FILE`, or name its socket with --socket."),
    "not-installable": Code(
        "Do what is said, then run it again: what was done already stays, and is not done twice."
    ),
    "wheel-refused": Code(
        "Name the file of a wheel of homeport, as it was downloaded: `homeport-VERSION-py3-none-any.whl`."
    ),
    "wheel-not-installed": Code(
        "Nothing was changed. Read what pip says: it needs a network, or PIP_NO_INDEX and PIP_FIND_LINKS with a"
        " directory of wheels."
    ),
    "version-refused": Code(
        "Nothing was changed, the present version goes on: mend what is named, or take another version."
    ),
    "upgrade-pending": Code(
        "Wait for its end: `journalctl -fu homeport-upgrade`. If it stands still, `systemctl restart homeport-upgrade`"
        " goes on with it."
    ),
    "upgrade-returned": Code(
        "`journalctl -u homeport -u homeport-upgrade` tells what the new version said; nothing else has to be done."
    ),
    "upgrade-unfinished": Code(
        "`systemctl status homeport-upgrade homeport` and `journalctl -u homeport-upgrade` tell how far it came."
    ),
    "state-too-new": Code("Install the version of homeport that wrote this state, or a newer one."),
    # store
    "store-unavailable": Code(
        "Look at free space and at the kernel's log for disk errors; the delivery can be redelivered."
    ),
    "space-low": Code(
        "Free some space (bytes or inodes) on the disk of `state_dir`: what waits goes on by itself then; a delivery"
        " that was refused can be redelivered."
    ),
    "stale": Code("Read it again and repeat the call."),
    # the webhook
    "signature-invalid": Code(
        "Set the webhook's secret on GitHub to the one that `github.webhook_secrets` names."
    ),
    "body-too-large": Code("GitHub sends at most 25 MiB."),
    "body-too-slow": Code("Send the whole request within 10 seconds."),
    "intake-busy": Code("Too much is being received at once; redeliver this one in a few seconds."),
    "stopping": Code("The agent is being stopped or restarted; try again in a few seconds."),
    "content-type": Code(
        "Set the webhook's content type to application/json (application/x-www-form-urlencoded is taken, too)."
    ),
    "body-invalid": Code(
        "Send the body as GitHub made it: strict JSON whose shape fits the X-GitHub-Event header, as it is or as"
        " the form's only field `payload`."
    ),
    # the rest of HTTP
    "unauthorized": Code("Send `Authorization: Bearer <token>` with a token of `access.tokens`."),
    "forbidden": Code("Use a token whose scopes include the one that this route needs."),
    "wrong-host": Code("Ask under a name that is listed under `hosts` in the configuration."),
    "cross-origin": Code("Call this route from the agent's own page, or with a token."),
    "not-found": Code("Look at /api/v1/services, /api/v1/deployments or /api/v1/backups for what exists."),
    "method-not-allowed": Code("Use a method that the Allow header names."),
    "request-invalid": Code("Correct the request as the message says."),
    "too-many-requests": Code("Wait as long as the Retry-After header says."),
    "unknown-service": Code("Name one of the configured services."),
    "internal": Code("This is a defect of homeport: look into its log and report it."),
    # why a delivery or a deployment does nothing
    "held": Code("Look into what failed, then `homeport resume SERVICE`; or deploy with --force."),
    "quarantined": Code("Push a fix; or deploy this revision all the same with --force."),
    "already-live": Code("Nothing to do; `--force` deploys it once more, with a changed configuration, say."),
    "newer-queued": Code("Nothing to do: a newer request took its place."),
    "left-by-hand": Code(
        "A person went back from this revision: push a fix, or deploy it all the same with --force."
    ),
    "not-live": Code(
        "What it was to leave is not live any more, so nothing was done; `homeport rollback SERVICE --to RELEASE`"
        " names where to go."
    ),
    "workflow-failed": _commit(
        "The workflow of `rollback.on_workflow` failed after the deployment: read its run on GitHub, and push a fix."
    ),
    "probation-failed": _commit(
        "It fell ill within `rollback.probation` after its deployment: read the service's own log, and push a fix."
    ),
    "run-not-failed": Code(
        "Nothing to do: only a run of `rollback.on_workflow` that fails or times out leads back."
    ),
    "newer-live": Code(
        "Nothing to do: what is live is newer; `homeport deploy --revision COMMIT` goes back all the same."
    ),
    "skip-deploy": Code(
        "Nothing to do: the commit's message says so; `homeport deploy` deploys it all the same."
    ),
    "paths-unchanged": Code(
        "Nothing to do: since what is live nothing changed that `source.paths` names; `homeport deploy` deploys it."
    ),
    "event-ignored": Code(
        "Nothing to do: homeport does not act on this event; choose others in GitHub's webhook."
    ),
    "event-not-chosen": Code("Add the event to the service's `deploy.on` if it is to deploy."),
    "other-repository": Code("Check `source.github`: no service takes deliveries of this repository."),
    "other-branch": Code("Nothing to do, unless `source.branch` names the wrong branch."),
    "tag-push": Code("Nothing to do: tags do not deploy, only the configured branch does."),
    "ref-deleted": Code("Nothing to do: the branch was deleted, what is live stays."),
    "other-workflow": Code("Nothing to do, unless `deploy.workflow` names the wrong file (or name)."),
    "run-of-fork": Code("Nothing to do: what runs on a fork's commit is never deployed; merge it first."),
    "run-not-chosen": Code(
        "Nothing to do, unless runs by hand or by schedule are to deploy: then add them to `deploy.workflow_events`."
    ),
    "run-not-completed": Code("Nothing to do: GitHub tells how the run ends when it has ended."),
    "run-not-green": Code("Correct what failed in the workflow, then push the fix or run it again."),
    "release-not-published": Code("Nothing to do: only publishing a release deploys it."),
    "release-draft": Code("Publish the release on GitHub if it is to deploy."),
    "prerelease-not-chosen": Code("Set `deploy.prereleases: true` if pre-releases are to deploy."),
    # deployments: the world
    "interrupted": Code("It was cut off too often; start it again with `homeport deploy`."),
    "revision-unknown": Code("Check the name: the repository has no such commit, branch or tag."),
    "not-on-branch": Code("Merge the commit into the configured branch first."),
    "branch-missing": Code("Check `source.branch`: the remote does not have it."),
    "git-unreachable": Code(
        "Check the network and `source.repository`; it was tried several times, and is again with the next trigger."
    ),
    "git-refused": Code("Check the credentials and host keys of `source.repository`."),
    "key-unusable": Code(
        "Give the agent's user the file that is named, readable for nobody else: `chmod 0600`."
    ),
    "submodule-missing": Code("Push the submodule's commit to its own repository, then deploy again."),
    "lfs-failed": Code("Install git-lfs, and push the objects with `git lfs push`; then deploy again."),
    "limit-unavailable": Code("Install util-linux (`prlimit`), or take `deploy.build.memory` out."),
    "repository-too-big": Code("Raise `source.max_size`, or make the repository smaller."),
    "mirror-foreign": Code(
        "Give the directory that is named to the agent's user (`chown -R`), or remove it: it is cloned anew."
    ),
    "git-timeout": Code(
        "Check the network. A large repository on a slow line needs more time: raise `source.timeout`."
    ),
    "git-failed": Code("Read git's message in the deployment's log."),
    "mirror-corrupt": Code("Nothing to do: the mirror is cloned anew by the next deployment."),
    "disk-full": Code("Free some space (bytes or inodes) on the disk that is named."),
    "disk-failed": Code("Look at the kernel's log: the disk refused to read or write."),
    "not-writable": Code("Make the named directory writable for the agent's user."),
    "current-not-a-link": Code(
        "Move the thing that stands at `current` away: it must be a symlink that homeport makes."
    ),
    "backup-failed": Code("Read the deployment's log; try `homeport backup create SERVICE`."),
    "backup-bad": Code("The copy does not read back as it was written: check the disk."),
    "backup-source-gone": Code("Bring the file back, or take the source out of `backup.sources`."),
    "backup-source-unreadable": Code("Make the file readable for the agent's user."),
    "backup-source-damaged": Code(
        "SQLite finds the database damaged: repair it, or move it out of what `backup.sources` covers."
    ),
    "backup-partial": Code(
        "Files changed or vanished while they were read, twice: try again when it is calmer."
    ),
    "archive-refused": Code(
        "The archive is damaged or would write outside of its directory; nothing was restored."
    ),
    "backup-unknown": Code("`homeport backup list` shows what there is."),
    "backup-busy": Code("Wait for the deployment, backup, verification or download that is running."),
    "backup-store-gone": Code(
        "Mount the disk that holds `backups` below `state_dir`. To begin anew without it, put the line"
        " `homeport backups 1` into the file `format` in that directory."
    ),
    "restore-target": Code("Name an empty or new directory with enough space."),
    "restore-place": Code("Make room or change the place that is named; nothing was touched."),
    "restore-refused": Code(
        "Restore it elsewhere with `homeport backup restore ID --to DIRECTORY`, or configure what it needs."
    ),
    "restore-not-backed-up": Code(
        "If the present data is lost or damaged, repeat it with --without-backup: what is replaced is kept beside."
    ),
    "restore-put-back": Code(
        "The data from before serves again; the backup's data did not suit this release."
    ),
    "restore-failed": Code(
        "Look at the paths of this restore: what was replaced stands beside each as `.pre-restore-<time>`."
    ),
    "prune-refused": Code("Set the clock: the newest backup seems to come from the future."),
    "runtime-failed": Code("Read the agent's log: the system refused to stop or start the process."),
    "systemd-unreachable": Code(
        "Is systemd the first process here, and does the system bus run? `systemctl status dbus` tells."
    ),
    "unit-unknown": Code("Install the unit that `runtime.unit` names, then `sudo systemctl daemon-reload`."),
    "unit-masked": Code("Somebody forbade this unit to start: `sudo systemctl unmask UNIT` allows it again."),
    "unit-refused": Code(
        "Allow the agent's user to start and stop this unit: a rule of polkit that names the unit and the verbs."
    ),
    "unit-left-running": Code(
        "`sudo systemctl disable --now UNIT` ends what the service ran as before; then do it again."
    ),
    "unit-stuck": Code(
        "Look at `systemctl list-jobs`, which shows what the job waits for; `sudo systemctl cancel` ends it."
    ),
    "port-in-use": Code(
        "Free the port (`sudo ss -ltnp` tells whose it is), or choose another one under `blue_green.ports`."
    ),
    "swap-not-installed": Code(
        "`sudo homeport install` makes what swaps nginx's upstream; after a change of `blue_green` run it again."
    ),
    "nginx-refused": Code(
        "Read what nginx says in the deployment's log (`sudo nginx -t` says it as well), mend that, and deploy again."
    ),
    "nginx-unanswered": Code(
        "Ask at `blue_green.url` yourself: its site must be there, pass to the upstream, and have a valid certificate."
    ),
    # deployments: the commit
    "tree-refused": _commit(
        "Remove the named entry from the repository: it would leave the release's directory."
    ),
    "submodule-refused": _commit(
        "Correct .gitmodules: a submodule lies on the same host, is reached by https or ssh, and is at most four"
        " deep."
    ),
    "build-failed": _commit("Read the build's output in the deployment's log, and push a fix."),
    "build-not-prepared": Code(
        "`sudo homeport install` allows what the configuration says now; then deploy again."
    ),
    "build-timeout": _commit("Make the build faster, or raise `deploy.build.timeout`."),
    "migrate-failed": _commit(
        "Nothing was switched: read the output of `deploy.migrate` in the deployment's log, and push a fix."
    ),
    "migrate-timeout": _commit(
        "Nothing was switched: make the migration faster, or raise `deploy.build.timeout`."
    ),
    "release-damaged": _commit(
        "The build or somebody changed files that came from git; push a fix or deploy again."
    ),
    "release-changed": Code("Somebody edited files that came from git: move the change into the repository."),
    "start-failed": _commit("Check `runtime.command`: it could not be started in the release."),
    "process-died": _commit("Read the service's own output, and push a fix."),
    "health-timeout": _commit(
        "The new version did not become healthy in time: read its output, or raise `health.timeout`."
    ),
    "soak-failed": _commit(
        "The new version became healthy and then failed: read its output, and push a fix."
    ),
    # ends
    "no-fallback": Code("There was no good release to go back to; push a fix."),
    "rollback-failed": Code("Nothing healthy is running: look at the service now, then `homeport deploy`."),
    "no-release": Code("Name one that is kept; or deploy a good revision."),
}


def page_of(code: str) -> str:
    """Where the docs explain a code: a page of the checkout, and its heading."""
    return f"docs/troubleshooting.md#{code}"
