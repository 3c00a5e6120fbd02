"""Programs that are no member of a cluster, and talk to its nodes."""
