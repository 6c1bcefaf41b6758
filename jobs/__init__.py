"""The client side: files in, the job store, results out, and the command line."""
