"""What bounds a server: open connections, the size of requests, work that waits."""
