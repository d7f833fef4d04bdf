"""homeport: the agent that a Raspberry Pi owner installs once and then trusts.

A commit ends as a healthy new version or as the old one still serving, never as neither, also when the plug is
pulled at the worst instant. A delivery that was accepted (202) is never lost and never runs twice. Nothing is
deployed without a verified backup.

The floors, from the ground up; each may import those below it (a lint checks it):

    core/      decisions: values in, values out; no I/O, no clock
    store/     memory: what must survive a power cut; the only SQL of our own
    system/    tools: each hides one blocking or dangerous library
    adapters/  answers to core/ports/: git, releases, runtimes, probes, backups
    services/  work: the long-running loops that carry a deployment through
    web/       face: requests to rows, rows to responses
    parts.py   what follows from a configuration;  app.py  wires everything;  foreground.py  the process
    cli/       the command line

Read first: core/pipeline.py (the life of a deployment as a table), services/deployer.py (its work), and then
store/journal.py (why it survives). One delivery goes straight down:

    POST /webhook -> web/hooks -> core/github, payload, triggers -> store/inbox (fsynced) -> 202
                       wake -> services/lanes -> services/deployer -> adapters

The terms, one meaning each: *delivery* one webhook request; *deployment* one run of the pipeline; *revision* a
commit; *release* a built revision on the disk; *service* what we run; *runtime* how it runs; *switch* the moment
`current` changes; *rollback* back to the last confirmed release; *hold / resume* automatic deployments stopped
for a service; *quarantine* a revision that failed through its own fault; *probe* and *verdict*; *backup* and
*restore*; *journal* deployments in the store; *lane* the queue of one service; *gate* what decides which of a queue
runs; *poll* a look at the branch's tip without a delivery; *crew* one service's work under one configuration;
*reload* a changed file is taken up; *promise* by when a loop comes by again, which the *watchdog* looks at; *event* a
line of the log.
"""

__version__ = "0.1.0"
"""The same as in pyproject.toml, which a test checks: asking the installed metadata costs 40 ms at every start."""
