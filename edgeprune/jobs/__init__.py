"""Work in child processes: the queue, the journal, the daemon behind a unix socket, and its clients."""
