"""The tables of `state.db`, as steps from each version to the next (PRAGMA user_version).

Times are microseconds since 1970, UTC. A step is never changed once it was released; a new one is added.
"""

VERSION_1 = (
    """CREATE TABLE services(
        name TEXT PRIMARY KEY,
        sequence INTEGER NOT NULL DEFAULT 0, -- number of the newest release
        live_release TEXT, live_revision TEXT, live_since INTEGER,
        held_since INTEGER, held_reason TEXT, held_by TEXT,
        live_proven INTEGER NOT NULL DEFAULT 1, -- 0 after a rollback that failed
        counted_from INTEGER NOT NULL DEFAULT 0 -- the guard counts the rollbacks of deployments above this number
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE deployments(
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        service TEXT NOT NULL,
        state TEXT NOT NULL,
        reason TEXT NOT NULL DEFAULT '', hint TEXT NOT NULL DEFAULT '',
        revision TEXT, previous TEXT, requested TEXT, release TEXT, backup TEXT,
        target TEXT, -- of a rollback that was asked for: a release, or '' for the one before what is live
        before TEXT, -- of a push
        force INTEGER NOT NULL DEFAULT 0,
        person INTEGER NOT NULL DEFAULT 0, -- a person asked for it, first or as well
        fault TEXT,
        interruptions INTEGER NOT NULL DEFAULT 0,
        orderly INTEGER NOT NULL DEFAULT 0, -- the agent was stopped in order: the next start does not count it
        config_hash TEXT NOT NULL DEFAULT '',
        migrated INTEGER NOT NULL DEFAULT 0, -- its `migrate` commands were begun
        kind TEXT NOT NULL, event TEXT, delivery TEXT, actor TEXT,
        created_at INTEGER NOT NULL, finished_at INTEGER
    ) STRICT""",
    """CREATE TABLE keys( -- Idempotency-Key, with the caller's name before it
        key TEXT PRIMARY KEY, deployment TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX deployments_of_service ON deployments(service, number)",
    "CREATE INDEX deployments_open ON deployments(service, number) WHERE finished_at IS NULL",
    "CREATE INDEX deployments_wanted ON deployments(service, revision, number) WHERE finished_at IS NULL",
    "CREATE INDEX deployments_asked ON deployments(service, requested, number) WHERE finished_at IS NULL",
    """CREATE INDEX deployments_bounced ON deployments(service, number)
        WHERE fault = 'commit' AND state IN ('rolled_back', 'broken')""",
    """CREATE TABLE steps(
        deployment INTEGER NOT NULL REFERENCES deployments(number) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        name TEXT NOT NULL, state TEXT NOT NULL,
        started_at INTEGER NOT NULL, finished_at INTEGER,
        detail TEXT NOT NULL DEFAULT '',
        output TEXT NOT NULL DEFAULT '', -- what programs printed: the last 64 KiB, redacted
        PRIMARY KEY(deployment, position)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE deliveries(
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        digest TEXT NOT NULL UNIQUE, -- SHA-256 of the signed bytes: what makes two deliveries the same
        id TEXT NOT NULL, event TEXT NOT NULL, received_at INTEGER NOT NULL, secret INTEGER NOT NULL,
        repository TEXT NOT NULL, ref TEXT NOT NULL, revision TEXT, sender TEXT NOT NULL,
        decision TEXT NOT NULL, reason TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX deliveries_by_id ON deliveries(id)",
    """CREATE TABLE outcomes( -- what a delivery came to, for each service that it matched
        delivery INTEGER NOT NULL REFERENCES deliveries(number) ON DELETE CASCADE,
        service TEXT NOT NULL,
        revision TEXT, -- null: only the fetch will tell
        requested TEXT, -- a commit or a ref, exactly; null: the branch's tip
        deployment TEXT, reason TEXT NOT NULL DEFAULT '',
        PRIMARY KEY(delivery, service)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX outcomes_held ON outcomes(service, delivery) WHERE reason = 'held'",
    """CREATE TABLE releases(
        service TEXT NOT NULL, name TEXT NOT NULL, revision TEXT NOT NULL, config_hash TEXT NOT NULL,
        created_at INTEGER NOT NULL, confirmed_at INTEGER,
        recipe TEXT NOT NULL DEFAULT '', -- a digest of what its build was made from
        built_by TEXT NOT NULL DEFAULT '', -- the release that built what it links to
        confirmation INTEGER NOT NULL DEFAULT 0, -- counted up with each: clocks jump
        spare_of TEXT, -- the deployment on whose way back it was built
        PRIMARY KEY(service, name)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE quarantine(
        service TEXT NOT NULL, revision TEXT NOT NULL, config_hash TEXT NOT NULL,
        reason TEXT NOT NULL, deployment TEXT NOT NULL, at INTEGER NOT NULL,
        PRIMARY KEY(service, revision, config_hash)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE events(
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        at INTEGER NOT NULL, name TEXT NOT NULL, service TEXT, deployment TEXT, data TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE backups(
        number INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which they were made: clocks jump
        id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, at INTEGER NOT NULL,
        body TEXT NOT NULL -- core.model.Backup as JSON; the manifest on the disk is the truth
    ) STRICT""",
    "CREATE INDEX backups_of_service ON backups(service, number)",
    """CREATE TABLE restores(
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE, service TEXT NOT NULL, state TEXT NOT NULL,
        deployment TEXT, -- whose rollback it is part of
        body TEXT NOT NULL -- core.restores.Restore as JSON
    ) STRICT""",
    "CREATE INDEX restores_of_service ON restores(service, number)",
    """CREATE TABLE proofs( -- the last restore drill that succeeded
        service TEXT PRIMARY KEY, body TEXT NOT NULL -- core.model.Proof as JSON
    ) STRICT, WITHOUT ROWID""",
)

VERSION_2 = ("ALTER TABLE deployments ADD COLUMN outage TEXT",)  # core.model.Outage as JSON

MIGRATIONS: tuple[tuple[str, ...], ...] = (VERSION_1, VERSION_2)
