"""Names and places of what is installed."""

from agent.core import upstreams

USER = "homeport"
HOME = "/var/lib/homeport"
PREFIX = "/opt/homeport"
"""Where the unit looks for the program."""
ETC = "/etc/homeport"
CONFIG = f"{ETC}/config.yaml"
CREDENTIALS = f"{ETC}/credentials"
WEBHOOK_SECRET = "webhook-secret"  # noqa: S105 - a name
DEPLOY_KEY = "deploy-key"
UNITS = "/etc/systemd/system"
SERVICE = "homeport.service"
SHIPPED = (SERVICE, "homeport-failed.service", upstreams.UNIT)
DROP_IN = f"{UNITS}/{SERVICE}.d/10-install.conf"
RULE = "/etc/polkit-1/rules.d/50-homeport.rules"
SUDOERS = "/etc/sudoers.d/homeport"
JOURNAL = "/etc/systemd/journald.conf.d/50-homeport.conf"
COMMAND = "/usr/local/bin/homeport"
