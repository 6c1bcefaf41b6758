"""What every endpoint shares: routing, validation, errors, ids, pages."""
