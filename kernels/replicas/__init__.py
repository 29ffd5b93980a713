"""Several engines that answer as one: processes of this machine, or actors of a Ray cluster."""
