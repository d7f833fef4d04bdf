"""How services run: one module per kind. A new one is one file, one line here and one in its contract test."""

from agent.adapters.runtimes.process import ProcessRuntime

RUNTIMES = {"process": ProcessRuntime}
"""`runtime.kind` -> class. Constructed as `RUNTIMES[kind](options, service=..., state=..., redact=...)`."""
