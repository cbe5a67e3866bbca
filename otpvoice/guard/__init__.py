"""Who may be called at all."""
