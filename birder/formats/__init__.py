"""Foreign formats: what other tools read and write."""
