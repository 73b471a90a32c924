"""Audits from the command line: of anyone's episode files, and of the alarms of finished studies."""
