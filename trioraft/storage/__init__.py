"""The disk: hard state, log, snapshots, backups."""
