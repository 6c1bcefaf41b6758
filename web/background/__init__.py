"""What goes on between requests: workers of batches that were made here, and readers for viewers."""
