"""`homeport backup create | list | verify | restore | prune | drill`."""

import argparse
from pathlib import Path
from typing import Any
from urllib.parse import quote

from agent.cli.client import LONG_TIMEOUT, Client, segment
from agent.cli.show import ago, coloured, emit, size, table


def add(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Declares the subcommands."""
    group = commands.add_parser("backup", parents=[shared], help="make, list, check and bring back backups")
    actions = group.add_subparsers(metavar="ACTION", required=True, dest="action")
    create = actions.add_parser("create", parents=[shared], help="make a backup now, and read it back")
    create.add_argument("service", metavar="SERVICE")
    create.set_defaults(run=_create)
    listing = actions.add_parser("list", parents=[shared], help="what there is, newest first")
    listing.add_argument("service", metavar="SERVICE", nargs="?")
    listing.set_defaults(run=_list)
    verify = actions.add_parser("verify", parents=[shared], help="read every byte of a backup back")
    verify.add_argument("id", metavar="ID")
    verify.set_defaults(run=_verify)
    restore = actions.add_parser(
        "restore",
        parents=[shared],
        help="bring a backup back: in the place of the service's data, or into a directory",
        description="Without --to: verifies the backup, backs up what is there, stops the service, swaps the data and"
        " starts the service again. If it does not come up with it, everything is put back and the exit status is 1.",
    )
    restore.add_argument("id", metavar="ID")
    where = restore.add_mutually_exclusive_group()
    where.add_argument(
        "--to", metavar="DIRECTORY", help="a new or empty directory; the service goes on untouched"
    )
    where.add_argument(
        "--without-backup", action="store_true", help="also if what is there is lost or damaged"
    )
    restore.add_argument("--dry-run", action="store_true", help="only tell what would be written")
    restore.set_defaults(run=_restore)
    prune = actions.add_parser("prune", parents=[shared], help="remove what `backup.keep` does not keep")
    prune.add_argument("service", metavar="SERVICE", nargs="?", help="by default all of them")
    prune.add_argument("--dry-run", action="store_true", help="only tell what would go")
    prune.set_defaults(run=_prune)
    drill = actions.add_parser(
        "drill", parents=[shared], help="prove that the newest good backup can be restored"
    )
    drill.add_argument("service", metavar="SERVICE")
    drill.set_defaults(run=_drill)


def _create(options: argparse.Namespace) -> int:
    made = Client(options).post("/api/v1/backups", {"service": options.service}, timeout=LONG_TIMEOUT)
    return _show(options, made)


def _verify(options: argparse.Namespace) -> int:
    where = f"/api/v1/backups/{segment(options.id, 'the backup')}/verify"
    return _show(options, Client(options).post(where, timeout=LONG_TIMEOUT))


def _show(options: argparse.Namespace, backup: dict[str, Any]) -> int:
    text = f"{backup['id']}: {coloured(backup['state'])}, {size(backup['bytes'])} saved"
    text += f", {size(backup['stored_bytes'])} added to the store"
    emit(options, backup, text + (f"\n  {backup['reason']}" if backup["reason"] else ""))
    return 0 if backup["state"] == "ok" else 1


def _list(options: argparse.Namespace) -> int:
    query = "" if options.service is None else f"?service={quote(options.service, safe='')}"
    document = Client(options).get(f"/api/v1/backups{query}")
    rows = [
        (
            item["id"],
            item["service"],
            item["state"],
            ago(item["at"]),
            size(item["bytes"]),
            size(item["stored_bytes"]),
        )
        for item in document["items"]
    ]
    none = "There are no backups yet: `homeport backup create SERVICE` makes one."
    text = table(rows, ("BACKUP", "SERVICE", "STATE", "MADE", "SAVED", "ADDED")) if rows else none
    emit(options, document, text)
    return 0


def _restore(options: argparse.Namespace) -> int:
    where = f"/api/v1/backups/{segment(options.id, 'the backup')}/restore"
    if options.dry_run:
        preview = Client(options).post(where, {"dry_run": True}, timeout=LONG_TIMEOUT)
        emit(options, preview, _previewed(preview, options.to))
        return 0
    if options.to is not None:
        return _unpack(options)
    wish = {"without_backup": options.without_backup}
    restore = Client(options).post(where, wish, timeout=LONG_TIMEOUT)
    emit(options, restore, _restored(restore))
    return 0 if restore["state"] == "done" else 1


def _previewed(preview: dict[str, Any], directory: str | None) -> str:
    lines = [f"{preview['backup']} of {preview['service']}, made {ago(preview['at'])}; nothing was changed"]
    place = "the service's directory" if directory is None else directory
    for path in preview["paths"]:
        told = f"{files(path['files'])}, {size(path['bytes'])}"
        if directory is None:
            told += f", in the place of {files(path['files_now'])}, {size(path['bytes_now'])}"
        lines.append(f"  {path['path']} in {place}: {told}")
    for database in preview["databases"]:
        rows = [
            (f"    {name}", str(database["then"].get(name, "-")), str((database["now"] or {}).get(name, "-")))
            for name in sorted(database["then"].keys() | (database["now"] or {}).keys())
        ]
        lines += [f"  {database['path']}, rows of each table:", table(rows, ("    TABLE", "THEN", "NOW"))]
    return "\n".join(lines)


def _restored(restore: dict[str, Any]) -> str:
    done = restore["state"] == "done"
    what = f"{restore['backup']}: {files(restore['files'])}, {size(restore['bytes'])}"
    lines = [f"{what} restored" if done else f"{what} not restored: {coloured(restore['state'])}"]
    if restore["detail"]:
        lines.append(f"  {restore['detail']}")
    if restore["state"] == "put_back":
        lines.append("  The data from before is in its place again.")
    if restore["kept"]:
        lines += [f"  kept: {swap['kept']}" for swap in restore["swaps"]]
    if restore["saved"]:
        lines.append(f"  the data from before is also backup {restore['saved']}")
    return "\n".join(lines)


def _unpack(options: argparse.Namespace) -> int:
    from agent.cli.unpack import unpack

    client = Client(options)
    identity = segment(options.id, "the backup")
    target = Path(options.to)
    with client.stream(f"/api/v1/backups/{identity}/content") as pieces:
        unpacked = unpack(pieces, target)
    text = f"{options.id} was written to {target}: {files(unpacked.files)}, {size(unpacked.bytes)}"
    for name in unpacked.left_out:
        text += f"\n  left out: {name}, a link that leads out of what was saved"
    document = {"id": options.id, "directory": str(target), "files": unpacked.files, "bytes": unpacked.bytes}
    emit(options, document | {"left_out": list(unpacked.left_out)}, text)
    return 0


def _prune(options: argparse.Namespace) -> int:
    wish = {"service": options.service, "dry_run": options.dry_run}
    document = Client(options).post("/api/v1/backups/prune", wish, timeout=LONG_TIMEOUT)
    lines = []
    for pruned in document["items"]:
        backups = counted(len(pruned["backups"]), "backup")
        told = (
            f"{backups} would go"
            if pruned["dry_run"]
            else f"{backups} removed, {size(pruned['freed_bytes'])} freed"
        )
        lines.append(f"{pruned['service']}: {told}")
        lines += [
            f"  {backup['id']}  {coloured(backup['state'])}, {ago(backup['at'])}"
            for backup in pruned["backups"]
        ]
        lines += [f"  {path}, which a restore replaced" for path in pruned["copies"]]
    emit(options, document, "\n".join(lines) or "There is no service.")
    return 0


def _drill(options: argparse.Namespace) -> int:
    where = f"/api/v1/services/{segment(options.service, 'the service')}/drill"
    proof = Client(options).post(where, timeout=LONG_TIMEOUT)
    tables = sum(len(found) for found in proof["tables"].values())
    rows = sum(sum(found.values()) for found in proof["tables"].values())
    text = f"{proof['id']} can be restored: read back, written elsewhere and compared in {proof['seconds']:.1f} s"
    text += f"\n  {files(proof['files'])}, {size(proof['bytes'])}; {counted(rows, 'row')} in {counted(tables, 'table')}"
    emit(options, proof, text)
    return 0


def files(count: int) -> str:
    """So many files."""
    return counted(count, "file")


def counted(count: int, what: str) -> str:
    """A number with its noun: `1 row`, `2 rows`."""
    return f"1 {what}" if count == 1 else f"{count} {what}s"
