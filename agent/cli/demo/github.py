"""What GitHub would send after a push: https://docs.github.com/en/webhooks/webhook-events-and-payloads#push."""

import hashlib
import hmac
import json
import uuid
from dataclasses import dataclass

from agent.cli.demo.repository import Push

OWNER = "homeport-demo"
NAME = "scraper"


@dataclass(frozen=True)
class Signed:
    """A delivery, ready to be sent, and to be sent again."""

    body: bytes
    headers: dict[str, str]

    def under_new_headers(self) -> "Signed":
        """The same signed bytes with another GUID: anybody who caught them could send this."""
        return Signed(self.body, self.headers | {"X-GitHub-Delivery": str(uuid.uuid4())})


def sign(push: Push, secret: bytes) -> Signed:
    """The delivery of a push, signed over its raw bytes."""
    body = json.dumps(payload(push)).encode()
    signature = hmac.digest(secret, body, hashlib.sha256).hex()
    return Signed(
        body,
        {
            "User-Agent": "GitHub-Hookshot/homeport-demo",
            "Accept": "*/*",
            "Content-Type": "application/json",
            "X-GitHub-Event": "push",
            "X-GitHub-Delivery": str(uuid.uuid4()),
            "X-GitHub-Hook-ID": "300000001",
            "X-GitHub-Hook-Installation-Target-ID": "100000001",
            "X-GitHub-Hook-Installation-Target-Type": "repository",
            "X-Hub-Signature-256": f"sha256={signature}",
        },
    )


def payload(push: Push) -> dict[str, object]:
    """The body of a push event."""
    page = f"https://github.com/{OWNER}/{NAME}"
    person = {"name": push.author, "email": push.email, "username": OWNER}
    commit = {
        "id": push.after,
        "tree_id": push.tree,
        "distinct": True,
        "message": push.message,
        "timestamp": push.at,
        "url": f"{page}/commit/{push.after}",
        "author": person,
        "committer": person,
        "added": [],
        "removed": [],
        "modified": list(push.modified),
    }
    return {
        "ref": "refs/heads/main",
        "before": push.before,
        "after": push.after,
        "repository": {
            "id": 100000001,
            "name": NAME,
            "full_name": f"{OWNER}/{NAME}",
            "private": False,
            "owner": {"name": OWNER, "login": OWNER, "id": 200000001, "type": "User"},
            "html_url": page,
            "url": page,
            "clone_url": f"{page}.git",
            "ssh_url": f"git@github.com:{OWNER}/{NAME}.git",
            "default_branch": "main",
            "master_branch": "main",
        },
        "pusher": {"name": OWNER, "email": push.email},
        "sender": {"login": OWNER, "id": 200000001, "type": "User", "site_admin": False},
        "created": not push.before.strip("0"),
        "deleted": False,
        "forced": False,
        "base_ref": None,
        "compare": f"{page}/compare/{push.before[:12]}...{push.after[:12]}",
        "commits": [commit],
        "head_commit": commit,
    }
